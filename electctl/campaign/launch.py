"""From the fork in the guardian to exec: the forked child becomes the command.

What this does not guarantee: that a setting outlives what the command does to itself.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Collection, Mapping, Sequence
from typing import NoReturn

from electctl.base.clock import now_ns
from electctl.campaign import inherited, prctl
from electctl.campaign.channel import CannotStart


def execute(
    argv: Sequence[str],
    env: Mapping[str, str],
    errors: int,
    guardian: int,
    given: Collection[int] = (),
    group: int | None = None,
) -> NoReturn:
    """In the forked child: become the command.

    ``given`` are the descriptors above 2 that it gets; all others of ours are close-on-exec. It
    joins the process group ``group``, electctl's, which may read from the terminal; without one it
    gets a session of its own. ``errors`` is told when it has joined, and why it could not be run
    (:func:`outcome`).
    """
    try:
        if group is None:
            os.setsid()
        else:
            os.setpgid(0, group)
            os.write(errors, b"%d\n" % now_ns())
        prctl.die_with_parent(signal.SIGKILL)
        # The guardian may have died since the fork, before the line above took effect.
        if os.getppid() == guardian:
            for fd in given:
                os.set_inheritable(fd, True)
            _usual_signals(inherited.recorded.ignored)
            os.execvpe(argv[0], list(argv), inherited.environment(env))
    except OSError as error:
        os.write(errors, str(error.errno).encode())
    except ValueError:
        os.write(errors, str(errno.EINVAL).encode())
    finally:
        os._exit(127)


def _usual_signals(ignored: Collection[int]) -> None:
    """As electctl was given them, whatever it and the interpreter have made of them since."""
    for signum in signal.valid_signals():
        wanted = signal.SIG_IGN if signum in ignored else signal.SIG_DFL
        if signal.getsignal(signum) != wanted:
            signal.signal(signum, wanted)
    # What was sent to us since the fork has waited, and takes effect here.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def outcome(text: bytes) -> tuple[float | None, int]:
    """When the command joined our process group, and the error number, 0 if it runs.

    ``text`` is all that :func:`execute` wrote to ``errors``.
    """
    joined, newline, code = text.rpartition(b"\n")
    return (int(joined) / 1e9 if newline else None), int(code or 0)


def explain(name: str, code: int) -> CannotStart:
    if code not in (errno.ENOENT, errno.ENOTDIR):
        cause = os.strerror(code)
        if code == errno.ENOEXEC:
            cause += " (a script needs a first line such as #!/bin/sh)"
        return CannotStart(126, f"{name}: cannot be run: {cause}")
    if "/" in name and os.path.exists(name):
        return CannotStart(127, f"{name}: the interpreter that its first line names is not found")
    return CannotStart(127, f"{name}: command not found")
