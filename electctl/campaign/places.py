"""Where a campaign's socket lives, how it is made there, and how its loss is noticed.

What this does not guarantee: that a place lasts. What cleans up temporary directories may remove a
socket that is in use (it sees another path under PrivateTmp=), and a runtime directory of a user
goes when the last session does; so a :class:`Spot` can be mended.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import stat
from contextlib import suppress
from pathlib import Path

from electctl.base import unix_socket
from electctl.base.state import make_ours, state_dir
from electctl.errors import ConfigError, UsageError

#: The longest path of a unix socket that every client takes, in bytes.
_MAX_PATH = 100
_NAME = "socket"
_BACKLOG = 128


class Spot:
    """The place of one socket. ``home``: a directory that is made for it, and removed with it."""

    def __init__(self, path: Path, home: Path | None = None) -> None:
        self.path = path
        self.home = home
        self._made: tuple[int, int] | None = None

    def listen(self) -> socket.socket:
        """A socket that listens here, mode 0600. Raises OSError, and FileExistsError for what is
        no dead socket of ours."""
        if self.home is not None:
            make_ours(self.home)
        clear(self.path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with unix_socket.short_path(self.path) as short:
                listener.bind(short)
            # Nobody can connect before listen(2).
            self.path.chmod(0o600)
            found = self.path.lstat()
            self._made = (found.st_dev, found.st_ino)
            listener.setblocking(False)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener

    def is_there(self) -> bool:
        """Whether the socket that was made here last is what is here now."""
        try:
            found = self.path.lstat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._made

    def remove(self) -> None:
        """Remove what was made here."""
        if self.home is not None:
            shutil.rmtree(self.home, ignore_errors=True)
        elif self.is_there():
            with suppress(OSError):
                self.path.unlink()


def clear(path: Path) -> None:
    """Remove a socket of ours on which nobody listens. Raises FileExistsError for anything else."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(17, "it exists and is no socket")
    if found.st_uid != os.geteuid():
        raise FileExistsError(17, "it is another user's socket")
    try:
        unix_socket.connect(path, timeout=1.0).close()
    except ConnectionRefusedError:
        path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise FileExistsError(17, f"it may be in use ({error.strerror or error})") from None
    else:
        raise FileExistsError(17, "somebody listens on it")


def named(path: Path) -> Spot:
    """The place of ``--socket PATH``. Raises UsageError where no socket can be made there."""
    path = path.absolute()
    try:
        clear(path)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            path.parent.stat()
            raise PermissionError(13, "its directory cannot be written to")
    except OSError as error:
        raise UsageError(
            f"--socket {path}: {error.strerror}",
            hint="name a path in a directory of yours where nothing is, or a dead socket of yours",
        ) from None
    return Spot(path)


def candidates() -> list[Spot]:
    """New places, the best first: nothing ages what is in a runtime directory."""
    name = f"electctl-{secrets.token_hex(4)}"
    roots: list[Path] = []
    for variable in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        text = os.environ.get(variable, "").partition(":")[0]
        if text.startswith("/") and _is_ours(Path(text)):
            roots.append(Path(text))
    if os.geteuid() == 0:
        roots.append(Path("/run"))
    with suppress(ConfigError, OSError):
        state = state_dir()
        make_ours(state)
        if _is_ours(state):
            roots.append(state)
    # Not tempfile.gettempdir(): it raises where no file can be written, and a socket needs no room.
    temporary = os.environ.get("TMPDIR", "")
    roots += [Path(temporary)] if temporary.startswith("/") else []
    roots += [Path("/tmp"), Path("/var/tmp")]
    spots = [Spot(root / name / _NAME, root / name) for root in dict.fromkeys(roots)]
    # A path that is too long for other people's clients is better than none.
    return sorted(spots, key=lambda spot: len(os.fsencode(spot.path)) > _MAX_PATH)


def _is_ours(directory: Path) -> bool:
    """Whether nobody else could put another socket in the place of ours."""
    try:
        found = directory.stat()
    except OSError:
        return False
    others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return found.st_uid == os.geteuid() and not others_write
