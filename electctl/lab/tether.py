"""Runs a program that must not outlive its parent: ``tether.py PARENT PROGRAM ARGS…``.

A script of its own, run with ``python -I -S``, because code between fork and exec is unsafe in a
process with threads. The kernel's promise is per *thread*: the signal comes when the thread that
forked ends (prctl(2), PR_SET_PDEATHSIG), so :mod:`electctl.lab.server` forks from one that lives as
long as the process. It does not hold for what the program itself starts, nor where there is no
prctl (macOS, BSD); there a killed parent leaves its servers running.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the program."""
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(1)
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
