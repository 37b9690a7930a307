"""What is done to the leader's processes: killed, stopped, and seen to be so in /proc."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from electctl.base.clock import now
from electctl.faults.fault import Injected, NotInjected, Scene
from electctl.faults.watching import until
from electctl.lab.server import process

#: Seconds between a command that is resumed, its electctl and its guardian.
HEAD_START = 0.05


def send(pids: Iterable[int], signum: signal.Signals) -> None:
    """A signal to processes that may be gone."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)


def gone(pid: int) -> bool:
    """Whether it has ended, be it unreaped."""
    found = process(pid)
    return found is None or found.state == "Z"


def stopped(pid: int) -> bool:
    """Whether a signal has stopped it."""
    found = process(pid)
    return found is not None and found.state == "T"


@contextmanager
def crash_electctl(scene: Scene) -> Iterator[Injected]:
    """SIGKILL of electctl alone."""
    with _ended(scene, signal.SIGKILL) as injected:
        yield injected


@contextmanager
def segv_electctl(scene: Scene) -> Iterator[Injected]:
    """SIGSEGV to electctl alone: it crashes in its own code, or a library's."""
    with _ended(scene, signal.SIGSEGV) as injected:
        yield injected


@contextmanager
def _ended(scene: Scene, signum: signal.Signals) -> Iterator[Injected]:
    pid = scene.leader.pid
    at = now()
    send([pid], signum)
    until(lambda: gone(pid), f"process {pid} is still there")
    yield Injected(f"electctl of {scene.leader.name}", f"process {pid} is gone", at)


@contextmanager
def terminate_electctl(scene: Scene) -> Iterator[Injected]:
    """SIGTERM to electctl, which hands over: no fault, but what faults are held against."""
    at = now()
    send([scene.leader.pid], signal.SIGTERM)
    yield Injected(f"electctl of {scene.leader.name}", "SIGTERM was sent", at)


@contextmanager
def crash_tree(scene: Scene) -> Iterator[Injected]:
    """SIGKILL of everything at once: stopped first, so that none can react to another's end."""
    with _stopped(scene.leader.tree) as (pids, _):
        at = now()
        send(pids, signal.SIGKILL)
        until(lambda: all(map(gone, pids)), "not all of its processes end")
        yield Injected(f"all of {scene.leader.name}", f"{len(pids)} processes are gone", at)


@contextmanager
def pause_electctl(scene: Scene) -> Iterator[Injected]:
    """SIGSTOP of electctl alone, resumed on leaving."""
    pid = scene.leader.pid
    with _stopped(lambda: [pid]) as (_, at):
        yield Injected(
            f"electctl of {scene.leader.name}", f"process {pid} is stopped (state T)", at
        )


@contextmanager
def pause_tree(scene: Scene) -> Iterator[Injected]:
    """SIGSTOP of electctl, its guardian and its command; these are resumed in the other order.

    A machine that wakes up schedules them in any order. In this one the command has time to act,
    and electctl to answer it, before the guardian kills: what comes of it does not depend on the
    scheduler.
    """
    with _stopped(scene.leader.tree) as (pids, at):
        yield Injected(
            f"all of {scene.leader.name}", f"{len(pids)} processes are stopped (state T)", at
        )
        for first in (scene.leader.command_pids(), [scene.leader.pid]):
            send(first, signal.SIGCONT)
            time.sleep(HEAD_START)


@contextmanager
def pause_command(scene: Scene) -> Iterator[Injected]:
    """SIGSTOP of the command and what it started, as by a long garbage collection."""
    with _stopped(scene.leader.command_pids) as (pids, at):
        yield Injected(
            f"the command of {scene.leader.name}", f"{len(pids)} processes are stopped", at
        )


@contextmanager
def _stopped(pids_of: Callable[[], list[int]]) -> Iterator[tuple[list[int], float]]:
    known: set[int] = set()

    def all_stopped() -> bool:
        # A child that was forked while its parent was being stopped shows up in the next look.
        pids = [pid for pid in pids_of() if not gone(pid)]
        known.update(pids)
        running = [pid for pid in pids if not stopped(pid)]
        send(running, signal.SIGSTOP)
        return bool(known) and not running

    at = now()
    try:
        if all(map(gone, pids_of())):
            raise NotInjected("there is none to stop")
        try:
            until(all_stopped, "not all of its processes stop")
        except NotInjected as error:
            raise NotInjected(f"{error}: {_shown(known)}") from None
        yield sorted(known), at
    finally:
        send([pid for pid in sorted(known) if stopped(pid)], signal.SIGCONT)


def _shown(pids: Iterable[int]) -> str:
    """Processes with their states, as proc(5) has them."""
    found = (process(pid) for pid in sorted(pids))
    return ", ".join(f"{each.pid} is {each.state}" for each in found if each is not None)
