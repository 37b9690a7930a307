"""Where electctl keeps what outlives a command: labs, and the embedded server.

What this does not guarantee: that the directory is on this machine's own disk. On a network file
system locks and sockets may work for each machine by itself.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from electctl.errors import ConfigError

_HINT = "ELECTCTL_STATE names another directory for state"


def state_dir() -> Path:
    """$ELECTCTL_STATE, or electctl in $XDG_STATE_HOME, or ~/.local/state/electctl.

    Without HOME, the home directory of the password database counts. Raises ConfigError where there
    is none either.
    """
    if named := os.environ.get("ELECTCTL_STATE"):
        return Path(named).absolute()
    base = os.environ.get("XDG_STATE_HOME", "")
    try:
        # The XDG specification has relative paths ignored.
        root = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    except RuntimeError:
        raise ConfigError(
            "there is no home directory to keep state in",
            hint="set HOME, or ELECTCTL_STATE to a directory of your own",
        ) from None
    return root / "electctl"


def make_private(path: Path) -> None:
    """Make the directory ``path`` with mode 0700, and those above it as usual.

    Raises ConfigError where that cannot be done, or :func:`check_private` does.
    """
    try:
        make_ours(path.parent, 0o777)
        make_ours(path)
    except OSError as error:
        raise ConfigError(
            f"directory {path} cannot be made: {error.strerror}", hint=_HINT
        ) from None
    check_private(path)


def make_ours(path: Path, mode: int = 0o700) -> None:
    """Make the directory ``path``, and those above it as usual; nothing if it is there.

    ``mode`` is less the umask, but never so that we could not use it ourselves: whoever starts us
    with a umask of 777 would shut us out for good. Raises OSError.
    """
    if path.is_dir():
        return
    make_ours(path.parent, 0o777)
    path.mkdir(mode=mode, exist_ok=True)
    path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o700)


def check_private(path: Path) -> None:
    """Raise ConfigError if somebody else could have put something into the directory ``path``.

    Nothing is said of one that is not there.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise ConfigError(f"directory {path}: {error.strerror}", hint=_HINT) from None
    if found.st_uid != os.geteuid():
        raise ConfigError(f"directory {path} belongs to another user", hint=_HINT)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"directory {path} can be written by others", hint=f"chmod 700 {path}")
