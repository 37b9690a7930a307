"""What is done to a whole host, or to a part of it: cgroups (v1 and v2), namespaces, a crowd.

What this does not guarantee: the right to do it. Whoever may not gets NotInjected with the reason.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from electctl.faults.fault import NotInjected

_ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000
#: Joins a cgroup, and eats its memory for as long as a process lives.
_EATER = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
eaten = []
def lives(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
while lives(sys.argv[2]):
    eaten.append(bytearray(os.urandom(1)) * (1 << 20))
"""
#: Forks that many children, which wait, says so, and takes them along.
_CROWD = """
import os, signal, sys
try:
    for _ in range(int(sys.argv[1])):
        if os.fork() == 0:
            signal.pause()
    print("there", flush=True)
    sys.stdin.read()
finally:  # also where whoever asked for us has gone meanwhile
    os.killpg(0, signal.SIGKILL)
"""


class Cgroup:
    """A new cgroup with one controller, or with none. ``v2`` says which interface it has."""

    def __init__(self, path: Path, *, v2: bool) -> None:
        self.path = path
        self.v2 = v2

    def write(self, name: str, value: str) -> None:
        """Write to one of its files. Raises NotInjected."""
        try:
            (self.path / name).write_text(value)
        except OSError as error:
            raise NotInjected(f"{self.path / name}: {error.strerror}") from None

    def take(self, pids: Sequence[int]) -> None:
        """Move processes into it; what they start is in it too."""
        for pid in pids:
            try:
                # In its cpu hierarchy cgroup v1 takes nobody of real-time priority in, as the
                # guardian is, and a thread of the releaser, and gives nobody that priority: so they
                # are without, as they were there.
                for thread in map(int, os.listdir(f"/proc/{pid}/task")):
                    if os.sched_getscheduler(thread) != os.SCHED_OTHER:
                        os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
                (self.path / "cgroup.procs").write_text(str(pid))
            except (ProcessLookupError, FileNotFoundError):
                continue
            except OSError as error:
                raise NotInjected(f"{self.path}: {error.strerror}") from None

    def limit_memory(self, room: int) -> None:
        """Leave ``room`` bytes to what is in it now."""
        used = (self.path / ("memory.current" if self.v2 else "memory.usage_in_bytes")).read_text()
        limit = str(int(used) + room)
        self.write("memory.max" if self.v2 else "memory.limit_in_bytes", limit)
        with suppress(NotInjected):  # where there is no swap there may be no such file
            self.write(
                *(("memory.swap.max", "0") if self.v2 else ("memory.memsw.limit_in_bytes", limit))
            )

    def limit_processor(self, share: float) -> None:
        """Let it have that share of one processor."""
        quota = round(share * _PERIOD_US)
        if self.v2:
            self.write("cpu.max", f"{quota} {_PERIOD_US}")
        else:
            self.write("cpu.cfs_period_us", str(_PERIOD_US))
            self.write("cpu.cfs_quota_us", str(quota))

    def oom_kills(self) -> int:
        """How many of its processes were killed for want of memory; -1 where nobody counts."""
        text = (self.path / ("memory.events" if self.v2 else "memory.oom_control")).read_text()
        counts = dict(line.split() for line in text.splitlines())
        return int(counts.get("oom_kill", -1))

    def kill(self) -> None:
        """SIGKILL to all that is in it: at once where the kernel does that, else one by one."""
        if (self.path / "cgroup.kill").exists():
            self.write("cgroup.kill", "1")
            return
        while pids := self.pids():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def pids(self) -> list[int]:
        """What is in it."""
        return [int(line) for line in (self.path / "cgroup.procs").read_text().split()]

    def close(self) -> None:
        """Move what is left to where it came from, and remove it."""
        deadline = time.monotonic() + 10
        while True:
            for pid in self.pids():
                with suppress(OSError):
                    (self.path.parent / "cgroup.procs").write_text(str(pid))
            try:
                self.path.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return


@contextmanager
def cgroup(controller: str) -> Iterator[Cgroup]:
    """A new cgroup with ``controller`` ("": none is needed). Raises NotInjected."""
    v1 = _ROOT / controller
    v2 = next((place for place in (_ROOT, _ROOT / "unified") if _is_v2(place)), None)
    if v2 is not None and (not controller or controller in _controllers(v2)):
        parent = v2
    elif controller and v1.is_dir():
        parent = v1
    elif not controller and (_ROOT / "pids").is_dir():
        parent = _ROOT / "pids"
    else:
        raise NotInjected(f"there is no cgroup hierarchy with {controller or 'processes'}")
    path = parent / f"electctl-fault-{os.getpid()}-{os.urandom(3).hex()}"
    try:
        path.mkdir()
    except OSError as error:
        raise NotInjected(f"no cgroup can be made in {parent}: {error.strerror}") from None
    group = Cgroup(path, v2=parent == v2)
    try:
        yield group
    finally:
        group.close()


def _is_v2(place: Path) -> bool:
    return (place / "cgroup.controllers").exists()


def _controllers(place: Path) -> list[str]:
    """Those that a new child would have."""
    return (place / "cgroup.subtree_control").read_text().split()


def set_oom_score(pid: int, score: int) -> None:
    """How readily the kernel chooses it (proc(5), oom_score_adj)."""
    Path(f"/proc/{pid}/oom_score_adj").write_text(str(score))


@contextmanager
def eater(group: Cgroup, until_gone: int) -> Iterator[subprocess.Popen[bytes]]:
    """Somebody in the cgroup takes all its memory until a process is gone."""
    argv = [sys.executable, "-I", "-S", "-c", _EATER, str(group.path / "cgroup.procs")]
    with subprocess.Popen([*argv, str(until_gone)], stderr=subprocess.DEVNULL) as eating:
        try:
            yield eating
        finally:
            eating.kill()


@contextmanager
def spinner(group: Cgroup) -> Iterator[None]:
    """Somebody in the cgroup who never waits for anything."""
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"]) as spinning:
        try:
            group.take([spinning.pid])
            yield
        finally:
            spinning.kill()


@contextmanager
def crowd(count: int) -> Iterator[None]:
    """``count`` processes that do nothing. Raises NotInjected where so many are not allowed."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _CROWD, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as them:
        assert them.stdout is not None
        try:
            if them.stdout.readline() != b"there\n":
                raise NotInjected(f"{count} processes more are not allowed here")
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(them.pid, signal.SIGKILL)


def check_prefix(prefix: Sequence[str]) -> None:
    """Raise NotInjected if nothing can be run under ``prefix`` here."""
    if not prefix:
        return
    if shutil.which(prefix[0]) is None:
        raise NotInjected(f"there is no {prefix[0]}")
    done = subprocess.run([*prefix, "true"], capture_output=True, text=True)
    if done.returncode != 0:
        raise NotInjected(f"{' '.join(prefix)}: {done.stderr.strip()}")
