"""A control group of our own for the command, where we may make one: killed whole, in one step.

What this does not guarantee: that there is one; nothing depends on it. A process that another
manager moves out of it is still found as a descendant.

We may make one below our own group in the unified hierarchy (version 2) if nobody else manages it.
systemd's rule is that each part of the tree has one writer: where systemd manages it, that is us
only if our own group is marked as delegated (``Delegate=yes`` sets the extended attribute
``user.delegate`` or ``trusted.delegate``). What belongs to systemd is known by the names of its
units in the path, or by systemd running here. Elsewhere, in a container's own cgroup namespace for
instance, it is ours if we can write to it.

Its name has a mark that no other has, because ids repeat from one PID namespace to the next. The
guardian makes it and removes it at its end; electctl does so if the guardian is dead, and the next
guardian removes what both have left. What a guardian has made it keeps locked, and the lock ends
with it: so whatever can be locked was left behind. Whether the id in its name is in use says
nothing, because PID 1 always is.

Moving a process takes the kernel some 10 ms. So the guardian waits for its first command in it, and
leaves it right after the fork: the command is in it from its first moment, and loses no time.

Sources: cgroups(7); "Control Group v2", cgroup.kill (Linux 5.14); systemd, "Control Group APIs and
Delegation", "Three scenarios" and the attributes of delegation.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

_PREFIX = "leadguard-"
_UNITS = (".service", ".scope", ".slice")
_MARKS = ("user.delegate", "trusted.delegate")
_SYSTEMD = Path("/run/systemd/system")

#: How often, and in how many seconds, one is made again that another took for left behind.
_TRIES, _PAUSE = 20, 0.001


class Cgroup:
    """One control group, which need not be there (any more)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: The directory, open and locked, if we are its guardian.
        self._lock: int | None = None

    @staticmethod
    def new_mark() -> str:
        """A mark for one electctl: its id, and what no other has."""
        return f"{os.getpid()}-{os.urandom(4).hex()}"

    @classmethod
    def of(cls, mark: str) -> Cgroup | None:
        """That of a guardian with this mark, if it has made one and it is still there."""
        home = _home()
        group = None if home is None else cls(home / f"{_PREFIX}{mark}")
        return group if group is not None and group.path.is_dir() else None

    @classmethod
    def make(cls, mark: str) -> Cgroup | None:
        """Make one; None where we may not, or cannot."""
        home = _home()
        if home is None or not _may_divide(home):
            return None
        _sweep(home)
        group = cls(home / f"{_PREFIX}{mark}")
        try:
            for _ in range(_TRIES):
                group.path.mkdir(exist_ok=True)
                group._lock = _locked(group.path)
                if group._lock is not None:
                    break
                # Another guardian has it in its hand, in the moment before we could lock it.
                time.sleep(_PAUSE)
            if group._lock is not None and (group.path / "cgroup.kill").exists():
                return group
        except OSError:
            return None
        group.remove()
        return None

    def enter(self) -> bool:
        """Move the calling process into it; whether that could be done. Takes about 10 ms.

        A child that is forked afterwards is in it from the start.
        """
        return _move(self.path)

    def leave(self) -> bool:
        """Move the calling process out of it, to where it was made."""
        return _move(self.path.parent)

    def kill(self) -> None:
        """SIGKILL to all in it but ourselves, in one step, which no fork escapes.

        Whoever may write there can have put us into it, too.
        """
        if self._may_hold_us() and not self.leave():
            return
        with contextlib.suppress(OSError):
            (self.path / "cgroup.kill").write_text("1")

    def _may_hold_us(self) -> bool:
        try:
            return self.path.name in Path("/proc/self/cgroup").read_text()
        except OSError:
            return True

    @property
    def populated(self) -> bool:
        """Whether a process is in it, or below it."""
        try:
            return "populated 1" in (self.path / "cgroup.events").read_text()
        except OSError:
            return False

    def remove(self) -> None:
        """Remove it, and what the command has made below it, as far as they are empty."""
        for folder, _, _ in os.walk(self.path, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _locked(path: Path) -> int | None:
    """The directory, open and locked; None if another has locked or removed it. Raises OSError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(handle, path):
            return handle
    except BlockingIOError:
        pass
    except OSError:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _move(group: Path) -> bool:
    try:
        (group / "cgroup.procs").write_text("0")
    except OSError:
        return False
    return True


def _home() -> Path | None:
    """Our own group's directory in the unified hierarchy."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        ours = next(line[3:] for line in lines if line.startswith("0::"))
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except (OSError, StopIteration):
        return None
    for line in mounts:
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            root, point = before.split()[3:5]
            inside = os.path.relpath(ours, root)
            if ".." not in inside:
                return Path(point) / inside
    return None


def _may_divide(home: Path) -> bool:
    if _SYSTEMD.is_dir() or any(part.endswith(_UNITS) for part in home.parts):
        return any(_marked(home, name) for name in _MARKS)
    return os.access(home / "cgroup.procs", os.W_OK)


def _marked(home: Path, name: str) -> bool:
    try:
        return os.getxattr(home, name) == b"1"
    except OSError:
        return False


def _sweep(home: Path) -> None:
    """Remove what guardians left that were killed together with their electctl."""
    with contextlib.suppress(OSError):
        for path in home.glob(f"{_PREFIX}*"):
            left = Cgroup(path)
            left._lock = _locked(path)
            if left._lock is not None:
                left.remove()
