"""The ``--result`` file: one JSON object on how a campaign ended.

What this does not guarantee: a result when electctl itself is killed, or the disk is full.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from electctl.base.clock import timestamp
from electctl.campaign.ending import Ending
from electctl.errors import UsageError

if TYPE_CHECKING:
    from electctl.campaign.orders import Finish
    from electctl.campaign.task import Job
    from electctl.campaign.term import Term


def summary(job: Job, finish: Finish, term: Term | None, terms: int) -> dict[str, object]:
    """What ``--result`` holds; ``term`` is None if it never came to a campaign."""
    ending = Ending() if term is None else term.ending
    margin = None if term is None else term.margin
    return {
        "outcome": finish.outcome,
        "exit_code": finish.exit_code,
        "message": finish.message,
        "election": job.election,
        "backend": job.scheme,
        "candidate": job.candidate,
        "command_exit": ending.command_exit,
        "timed_out": ending.cause == "max_run",
        "token": None if term is None else term.token,
        "elected_at": _stamp(None if term is None else term.elected_at),
        "lost_at": _stamp(None if term is None else term.lost_at),
        "lost_reason": ending.lost_reason,
        "stopped_at": _stamp(None if term is None else term.stopped_at),
        "left": None if term is None else term.left,
        "margin_ms": None if margin is None else round(margin * 1000),
        "terms": terms,
    }


def _stamp(at: float | None) -> str | None:
    return None if at is None else timestamp(at)


class ResultFile:
    """A file that appears whole or not at all; what is no plain file is written to as it is.

    So is anything below /dev and /proc: /dev/stdout may be a plain file, not ours to replace.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._through = path.absolute().parts[1:2] in (("dev",), ("proc",))

    def check(self) -> None:
        """Raise UsageError unless it can be written, so that a campaign does not end in vain.

        The result of an earlier campaign is removed, so that it is not taken for this one's.
        """
        try:
            if self._replaces():
                self._replace("")
                self.path.resolve().unlink(missing_ok=True)
            elif self.path.is_dir():
                raise IsADirectoryError(21, "it is a directory")
            elif not os.access(self.path, os.W_OK):
                raise PermissionError(13, "permission denied")
        except OSError as error:
            raise UsageError(
                f"--result {self.path}: it cannot be written: {error.strerror}",
                hint="name a file in a directory that you can write to",
            ) from None

    def write(self, result: Mapping[str, object]) -> None:
        """Write it. Raises OSError."""
        text = json.dumps(result) + "\n"
        if self._replaces():
            self._replace(text)
        else:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(text)

    def _replaces(self) -> bool:
        try:
            return not self._through and stat.S_ISREG(self.path.stat().st_mode)
        except FileNotFoundError:
            return True

    def _replace(self, text: str) -> None:
        """Write to a file beside it, then rename; with no ``text``, only try the first part."""
        target = self.path.resolve()
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
                # mkstemp makes it 0600; a result is no secret.
                os.fchmod(stream.fileno(), 0o666 & ~_umask())
            if text:
                os.replace(name, target)
        finally:
            Path(name).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
