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

from electctl.errors import UsageError


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
