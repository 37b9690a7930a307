"""Unix sockets by path, however long the path is; and which process listens.

What this does not guarantee: that the process is what it should be. Who may bind in a directory is
decided by the directory's owner and mode.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Bytes of a path that every system takes; Linux takes 107 (unix(7)).
_FITS = 100


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A path that leads to ``path`` and fits into an address, where the system has such a path.

    Raises OSError if the directory of ``path`` cannot be opened.
    """
    if len(os.fsencode(path)) <= _FITS:
        yield str(path)
        return
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        short = Path(f"/proc/self/fd/{fd}")
        yield str((short if short.exists() else path.parent) / path.name)
    finally:
        os.close(fd)


def connect(path: Path, timeout: float) -> socket.socket:
    """A connection to whoever listens on ``path``, with this time-out in seconds.

    Raises OSError: FileNotFoundError or ConnectionRefusedError if nobody does.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        with short_path(path) as short:
            sock.connect(short)
    except BaseException:
        sock.close()
        raise
    return sock


def peer_pid(sock: socket.socket) -> int | None:
    """The process that listened, by the kernel's word (SO_PEERCRED, unix(7)); None elsewhere."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    size = struct.calcsize("3i")
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid: int = struct.unpack("3i", found)[0]
    return pid
