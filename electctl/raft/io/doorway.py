"""The Unix socket of a node: made so that only we may connect, and made again if it is removed.

What this does not guarantee: that nobody takes its place. What is there and is not ours is left
alone, also at the end.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from electctl.base import unix_socket
from electctl.errors import ConfigError, Unreachable

#: Seconds to find out whether somebody listens on it.
_PROBE_TIMEOUT = 1.0


class Doorway:
    """A socket at ``path``, once :meth:`bind` was called."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made: tuple[int, int] | None = None

    def bind(self) -> socket.socket:
        """A new one, in place of one that nobody listens on. Raises ConfigError, Unreachable."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._clear()
            # Nobody may connect between bind and chmod.
            before = os.umask(0o177)
            try:
                with unix_socket.short_path(self.path) as short:
                    listener.bind(short)
            finally:
                os.umask(before)
            found = self.path.lstat()
        except OSError as error:
            listener.close()
            raise ConfigError(
                f"cannot listen on {self.path}: {error.strerror or error}",
                hint="a short name in a directory of ours",
            ) from None
        except BaseException:
            listener.close()
            raise
        self._made = (found.st_dev, found.st_ino)
        return listener

    def is_there(self) -> bool:
        """Whether what was made last is what is there now."""
        try:
            found = self.path.lstat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._made

    def remove(self) -> None:
        """Remove what was made."""
        if self.is_there():
            with suppress(OSError):
                self.path.unlink()

    def _clear(self) -> None:
        try:
            unix_socket.connect(self.path, _PROBE_TIMEOUT).close()
        except (FileNotFoundError, ConnectionRefusedError):
            if self.path.is_socket():
                self.path.unlink()
        else:
            raise Unreachable(
                f"another server listens on {self.path}", hint="stop it, or name another socket"
            )
