"""A server's wall clock, shifted by libfaketime while it runs.

The clock is seen to have moved by what the server itself says: libfaketime does not reach a program
that asks the kernel past libc (Go). What this does not shift is the monotonic clock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from electctl.base.clock import now
from electctl.errors import Unreachable
from electctl.faults import processes
from electctl.faults.fault import Injected, NotInjected, Scene
from electctl.faults.members import leading
from electctl.faults.watching import mend, until
from electctl.lab.capable import Clocked
from electctl.lab.cluster import Cluster

PACKAGE = "faketime"
_LIBRARIES = "lib*/*/faketime/libfaketimeMT.so.1"
#: In TTLs.
JUMP = 3.0
#: How many times as fast.
RATE = 10.0
#: Seconds: what a server's answer may be off, and how far apart two answers are.
_OFF = 1.5
_APART = 0.3


def clocked(cluster: Cluster) -> str | None:
    """Why no clock can be seen to move."""
    if not isinstance(cluster, Clocked):
        return "its servers do not tell the time"
    return None if cluster.asks_libc else "libfaketime does not reach its servers"


def library() -> Path:
    """libfaketime. Raises NotInjected."""
    for found in sorted(Path("/usr").glob(_LIBRARIES)):
        return found
    raise NotInjected(f"libfaketime is not installed; apt-get install {PACKAGE}")


@contextmanager
def faked(cluster: Cluster) -> Iterator[None]:
    """Restart the servers under libfaketime, their clocks still right; and without it on leaving.

    libc follows the library in LD_PRELOAD, because jemalloc, which Redis is linked with, asks for
    the time before libfaketime is ready to answer, and both wait for ever.
    """
    if not isinstance(cluster, Clocked):
        raise NotInjected(clocked(cluster) or "")
    _write(cluster, "+0")
    added = {
        "LD_PRELOAD": f"{library()}:libc.so.6",
        "FAKETIME_TIMESTAMP_FILE": str(_file(cluster)),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    cluster.stop()
    saved = [dict(server.env) for server in cluster.members]
    try:
        for server in cluster.members:
            server.env.update(added)
        mend(cluster)
        yield
    finally:
        cluster.stop()
        for server, env in zip(cluster.members, saved, strict=True):
            server.env = env
        mend(cluster)


def jump(ttls: float) -> Callable[[Scene], AbstractContextManager[Injected]]:
    """The clock of the store's leader is set forward, or back, by so many TTLs."""

    @contextmanager
    def inject(scene: Scene) -> Iterator[Injected]:
        seconds = ttls * scene.ttl
        cluster, number = _target(scene)
        at = now()
        try:
            _write(scene.cluster, f"{seconds:+.3f}")
            until(
                lambda: abs(cluster.clock(number) - time.time() - seconds) < min(_OFF, scene.ttl),
                f"the clock of {cluster.members[number].name} did not move",
                3.0,
            )
            moved = cluster.clock(number) - time.time()
            way = "forward" if seconds > 0 else "back"
            yield Injected(
                cluster.members[number].name, f"its clock went {abs(moved):.1f} s {way}", at
            )
        finally:
            _write(scene.cluster, "+0")

    return inject


@contextmanager
def back(scene: Scene) -> Iterator[Injected]:
    """The clock is set back, and then all of the leader is killed: how long does its lease last?"""
    with jump(-JUMP)(scene) as injected, processes.crash_tree(scene) as crashed:
        confirmed = f"{injected.confirmed}; {crashed.confirmed}"
        yield Injected(injected.target, confirmed, crashed.at)


@contextmanager
def fast(scene: Scene) -> Iterator[Injected]:
    """The clock of the store's leader runs ten times as fast, without a jump."""
    cluster, number = _target(scene)
    pid = cluster.members[number].pid
    assert pid is not None
    at = now()
    try:
        # libfaketime multiplies what has passed since the process began.
        _write(scene.cluster, f"-{_age(pid) * (RATE - 1):.3f} x{RATE:g}")
        begun, first = now(), cluster.clock(number)
        time.sleep(_APART)
        rate = (cluster.clock(number) - first) / (now() - begun)
        if not RATE / 2 < rate < RATE * 2:
            raise NotInjected(f"the clock of {cluster.members[number].name} runs at {rate:.1f}")
        yield Injected(cluster.members[number].name, f"its clock runs {rate:.1f} times as fast", at)
    finally:
        _write(scene.cluster, "+0")


def _age(pid: int) -> float:
    """Seconds since a process began (proc(5), starttime)."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return now() - ticks / os.sysconf("SC_CLK_TCK")


def _target(scene: Scene) -> tuple[Clocked, int]:
    if not isinstance(scene.cluster, Clocked):
        raise NotInjected(clocked(scene.cluster) or "")
    number = leading(scene)
    try:
        scene.cluster.clock(number)
    except Unreachable as error:
        raise NotInjected(error.message) from error
    return scene.cluster, number


def _file(cluster: Cluster) -> Path:
    return cluster.home / "faketime"


def _write(cluster: Cluster, text: str) -> None:
    """In one step: a server reads it at any time."""
    fresh = _file(cluster).with_suffix(".new")
    fresh.write_text(text + "\n")
    fresh.replace(_file(cluster))
