"""What whoever started electctl gave to it, and what of that its command gets.

A wrapper hands on what it was given, as env(1), timeout(1) and flock(1) do: open descriptors
(``exec 3<file``, process substitution, socket activation as in sd_listen_fds(3)) and ignored
signals (nohup, the background jobs of a script).

What this does not guarantee: that what was ignored of SIGPIPE and SIGXFSZ is known, because the
interpreter ignores both before any of our code runs; nor a signal mask, which the command gets
empty. SIGTERM and SIGCHLD are not handed on ignored: the one is how a command is told to stop, and
with the other ignored no program learns how its children ended.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

#: Not known, or not handed on; see above.
_NOT_KEPT = frozenset({signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGCHLD})
#: Descriptors that are looked at where the system has no list of the open ones.
_MANY = 256


class Inherited(NamedTuple):
    """What :func:`record` found."""

    #: Descriptors above 2 that were open and not close-on-exec.
    descriptors: tuple[int, ...] = ()
    #: Signals that were ignored, and are to be ignored in the command.
    ignored: frozenset[int] = frozenset()
    #: LISTEN_PID of sd_listen_fds(3) named this process.
    listening: bool = False


#: Set once by :func:`record`, at the start of the program. Who uses electctl as a library hands
#: nothing on.
recorded = Inherited()
_claimed: set[int] = set()


def record() -> None:
    """Note what was given, and make this process whole: call it before anything is opened.

    Standard streams that were closed become /dev/null, so that nothing of ours gets their numbers.
    Other descriptors become close-on-exec: only the command gets them, by :func:`given`. No signal
    stays blocked, and SIGCHLD takes its usual effect, so that children can be waited for.
    """
    global recorded
    for standard in range(3):
        with suppress(OSError):
            os.fstat(standard)
            continue
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    recorded = Inherited(
        tuple(fd for fd in _open_descriptors() if _is_inheritable(fd)),
        frozenset(
            signum
            for signum in signal.valid_signals()
            if signal.getsignal(signum) == signal.SIG_IGN and signum not in _NOT_KEPT
        ),
        os.environ.get("LISTEN_PID") == str(os.getpid()),
    )
    for fd in recorded.descriptors:
        os.set_inheritable(fd, False)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def claim(path: str | os.PathLike[str]) -> None:
    """Keep the descriptor that a path such as /dev/fd/3 names for electctl alone."""
    folder, name = os.path.split(os.path.abspath(path))
    if folder in ("/dev/fd", "/proc/self/fd") and name.isdecimal():
        _claimed.add(int(name))


def given() -> tuple[int, ...]:
    """The descriptors that the command is to get: all that were given, but those claimed."""
    return tuple(fd for fd in recorded.descriptors if fd not in _claimed)


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """In the command's process: its environment, with its own process id for sd_listen_fds(3)."""
    changed = dict(env)
    if recorded.listening and "LISTEN_PID" in changed:
        changed["LISTEN_PID"] = str(os.getpid())
        # Names the process a second time, by a number of its pidfd (systemd 258).
        changed.pop("LISTEN_PIDFDID", None)
    return changed


def _open_descriptors() -> Iterator[int]:
    for folder in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            yield from sorted(int(name) for name in os.listdir(folder) if int(name) > 2)
            return
    yield from range(3, _MANY)


def _is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False  # closed, as the descriptor with which the list was read
