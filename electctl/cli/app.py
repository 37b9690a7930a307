"""The root of the command line: which commands there are, and the options they all take.

Only the module of the command that is called is imported. Nothing here knows a backend.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from electctl.cli import options
from electctl.cli.frame import Frame

#: name → (module that exports ``app``, line in ``electctl --help``), in the order of the help.
COMMANDS: dict[str, tuple[str, str]] = {
    "campaign": ("electctl.cli.campaign", "Run a command only while leading."),
    "watch": ("electctl.cli.watch", "Follow who leads, live or as a record."),
    "holders": ("electctl.cli.holders", "Print who leads, once."),
    "evict": ("electctl.cli.evict", "Ask the leader to stop, and wait until it has."),
    "check": ("electctl.cli.check", "Inside a campaign's command: do we still lead?"),
    "checkpoint": ("electctl.cli.checkpoint", "Inside a campaign's command: guarded state."),
    "backends": ("electctl.cli.backends", "List the schemes and what each promises."),
    "lab": ("electctl.cli.lab", "Run real servers on loopback, to try things on."),
}

_WIDTH = 100
_GLOBALS = ("backend", "config", "json", "quiet", "verbose")


def new_app(*, help: str | None = None) -> typer.Typer:
    """A Typer app in the house style. ``help`` makes it a group of commands."""
    app = typer.Typer(
        cls=Group,
        help=help,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        no_args_is_help=False,
    )
    if help is not None:
        app.callback()(lambda: None)
    return app


def _takes_globals(
    backend: options.Backend = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Only its signature is used: the global options, once for all commands."""


def _global_params() -> list[Any]:
    probe = typer.Typer(add_completion=False)
    probe.command()(_takes_globals)
    return list(typer.main.get_command(probe).params)


def _merge_globals(ctx: typer.Context) -> None:
    given = {name: ctx.params.pop(name) for name in _GLOBALS if name in ctx.params}
    frame = ctx.parent.find_object(Frame) if ctx.parent is not None else None
    ctx.obj = (frame or Frame()).merged(**given)


def _write_examples(epilog: str | None, formatter: Any) -> None:
    """The epilog verbatim, one command a line."""
    if epilog:
        with formatter.section("Examples"):
            for line in inspect.cleandoc(epilog).strip().splitlines():
                formatter.write(f"{'':>{formatter.current_indent}}{line}".rstrip() + "\n")


class Command(TyperCommand):
    """One command: takes the global options too, shows its epilog as examples."""

    def __init__(self, name: str | None, *, params: list[Any] | None = None, **attrs: Any) -> None:
        super().__init__(name, params=[*(params or ()), *_global_params()], **attrs)

    def invoke(self, ctx: Any) -> Any:
        """Merge the global options into the frame, then run."""
        _merge_globals(ctx)
        return super().invoke(ctx)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples."""
        _write_examples(self.epilog, formatter)


class Group(TyperGroup):
    """A group of commands: takes the global options too."""

    def __init__(self, *, params: list[Any] | None = None, **attrs: Any) -> None:
        super().__init__(params=[*(params or ()), *_global_params()], **attrs)

    def invoke(self, ctx: Any) -> Any:
        """Merge the global options into the frame, then run the command of the group."""
        _merge_globals(ctx)
        return super().invoke(ctx)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples."""
        _write_examples(self.epilog, formatter)


class Root(Group):
    """``electctl`` itself: a table of names, each loaded when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every name, without loading any."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load the one command that is asked for."""
        if cmd_name not in COMMANDS:
            return None
        module, line = COMMANDS[cmd_name]
        command = typer.main.get_command(importlib.import_module(module).app)
        command.name = cmd_name
        command.short_help = line
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The table, without loading any command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _show_version(value: bool) -> None:
    if value:
        from electctl import __version__

        typer.echo(f"electctl {__version__}")
        raise typer.Exit


def root() -> Any:
    """The root command."""
    app = typer.Typer(
        cls=Root,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=True,
        context_settings={
            "help_option_names": ["-h", "--help"],
            "max_content_width": _WIDTH,
        },
    )

    @app.callback()
    def electctl(
        version: Annotated[
            bool,
            typer.Option(
                "--version", callback=_show_version, is_eager=True, help="Print the version."
            ),
        ] = False,
    ) -> None:
        """Use, see, compare and choose leader election."""

    return typer.main.get_command(app)


def invoke(argv: Sequence[str]) -> int:
    """Run one command line. Returns its exit code, raises whatever went wrong."""
    command = root()
    try:
        with command.make_context("electctl", list(argv)) as ctx:
            command.invoke(ctx)
    except typer.Exit as end:
        return end.exit_code
    return 0
