"""What the global options come to: output, notes, settings. Imports no Typer, so fast paths use it.

What this does not guarantee: that what was printed was read; a closed pipe ends the program.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, Self

from electctl.cli.render import json_line, message_text, table

if TYPE_CHECKING:
    from electctl.cli.config import Settings


@dataclass
class Frame:
    """The global options of one run. ``Frame.of(ctx)`` in a command."""

    backends: tuple[str, ...] = ()
    config: str | None = None
    json: bool = False
    quiet: bool = False
    verbose: int = 0
    stdout: IO[str] = field(default_factory=lambda: sys.stdout, repr=False)
    stderr: IO[str] = field(default_factory=lambda: sys.stderr, repr=False)

    @classmethod
    def of(cls, ctx: Any) -> Self:
        """The frame of a Typer context: the options before the command and after it, merged."""
        frame = ctx.find_object(cls)
        if frame is None:
            raise LookupError("the command is not registered with cls=Command")
        return frame  # type: ignore[no-any-return]

    def merged(
        self,
        *,
        backend: list[str] | None,
        config: str | None,
        json: bool,
        quiet: bool,
        verbose: int,
    ) -> Frame:
        """This frame with the options given once more, after the command."""
        return Frame(
            (*self.backends, *(backend or ())),
            config if config is not None else self.config,
            self.json or json,
            self.quiet or quiet,
            self.verbose + verbose,
            self.stdout,
            self.stderr,
        )

    @cached_property
    def settings(self) -> Settings:
        """Flags, environment, config file and defaults, resolved. Raises ConfigError."""
        from electctl.cli.config import Settings

        return Settings.load(backends=self.backends, config=self.config, warn=self.note)

    def print(self, text: str) -> None:
        """Data for stdout: one write, a newline at its end, flushed."""
        self.stdout.write(text if text.endswith("\n") else text + "\n")
        self.stdout.flush()

    def print_table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows under their heads; on a terminal that is too narrow, one list a row."""
        import shutil

        columns = shutil.get_terminal_size().columns if self.stdout.isatty() else None
        self.print(table(heads, rows, columns))

    def emit(self, obj: object) -> None:
        """One JSON object as one line on stdout."""
        self.print(json_line(obj))

    def note(self, text: str) -> None:
        """A message for people, on stderr; silent with ``-q``."""
        if not self.quiet:
            self.stderr.write(f"electctl: {message_text(text)}\n")
            self.stderr.flush()

    def detail(self, text: str) -> None:
        """The same, only with ``-v``."""
        if self.verbose:
            self.note(text)
