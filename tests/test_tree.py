"""Walking and killing process trees, with real processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from electctl.base.clock import now
from electctl.campaign.process import Process
from electctl.campaign.procfs import children, read
from electctl.campaign.tree import Tree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")

#: Before every program: it ends by itself, also where the test that started it was killed.
LIMIT = "import signal; signal.alarm(60)\n"

#: As many forks as its argument says, each the parent of the next.
CHAIN = """
    import os, signal, sys
    for _ in range(int(sys.argv[1])):
        if os.fork():
            break
    else:
        print("ready", flush=True)
    signal.alarm(30)
    signal.pause()
"""

PATIENCE = 15.0


class Planted:
    """A process started by a test; its first line of output says that it is ready."""

    def __init__(self, program: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-IS", "-c", LIMIT + textwrap.dedent(program), *arguments],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout
        self.line = self.output.readline().strip()

    @property
    def pid(self) -> int:
        return self.process.pid


@pytest.fixture
def plant() -> Iterator[Callable[..., Planted]]:
    trees: list[Planted] = []

    def start(program: str, *arguments: str) -> Planted:
        trees.append(Planted(program, *arguments))
        return trees[-1]

    yield start
    for each in trees:
        each.process.send_signal(signal.SIGSTOP)
        Tree(each.pid).destroy()
        each.process.kill()
        each.process.wait()
        each.output.close()


Plant = Callable[..., Planted]


def dead_within(handle: int, seconds: float) -> bool:
    ready, _, _ = select.select([handle], [], [], seconds)
    os.close(handle)
    return bool(ready)


def test_read_agrees_with_the_system() -> None:
    process = read(os.getpid())
    assert process is not None
    assert (process.pid, process.parent) == (os.getpid(), os.getppid())
    assert (process.group, process.session) == (os.getpgrp(), os.getsid(0))
    assert process.alive
    assert 0 < process.start <= now() * os.sysconf("SC_CLK_TCK")


def test_read_of_nothing() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert read(child.pid) is None
    assert children(child.pid) is None


def test_a_name_with_parentheses_does_not_confuse(plant: Plant) -> None:
    odd = plant("""
        import ctypes, signal
        ctypes.CDLL(None).prctl(15, b") Z 1 1 (", 0, 0, 0)
        print("ready", flush=True)
        signal.pause()
    """)
    process = read(odd.pid)
    assert process is not None
    assert process.parent == os.getpid()
    assert process.alive


def test_a_zombie_is_not_alive_but_a_descendant(plant: Plant) -> None:
    parent = plant("""
        import os, signal
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        print(pid, flush=True)
        signal.pause()
    """)
    (zombie,) = Tree(parent.pid).look()
    assert zombie.pid == int(parent.line)
    assert not zombie.alive


def test_a_process_whose_main_thread_has_ended_is_alive_and_dies(plant: Plant) -> None:
    """Its state reads Z, as a zombie's does."""
    threaded = plant("""
        import ctypes, os, signal, threading, time
        pid = os.fork()
        if pid == 0:
            threading.Thread(target=time.sleep, args=(60,)).start()
            ctypes.CDLL(None).pthread_exit(None)
        while ") Z" not in open(f"/proc/{pid}/stat").read():
            time.sleep(0.01)
        print(pid, flush=True)
        signal.pause()
    """)
    pid = int(threaded.line)
    process = read(pid)
    assert process is not None
    assert process.alive
    handle = os.pidfd_open(pid)
    Tree(threaded.pid).destroy()
    assert dead_within(handle, PATIENCE)


def test_descendants_of_a_chain_are_all_found_and_nothing_else(plant: Plant) -> None:
    chain, other = plant(CHAIN, "4"), plant(CHAIN, "1")
    found = Tree(chain.pid).look()
    assert len(found) == 4
    parents = {process.pid: process.parent for process in found}
    at, length = found[-1].pid, 0
    while at in parents:
        at, length = parents[at], length + 1
    assert at == chain.pid
    assert length >= 1
    assert not {p.key for p in found} & {p.key for p in Tree(other.pid).look()}
    assert {p.key for p in found} < {p.key for p in Tree(os.getpid()).look()}


@pytest.mark.parametrize("forks_in", ["the main thread", "another thread"])
def test_children_are_all_of_one_generation(plant: Plant, forks_in: str) -> None:
    parent = plant(
        """
        import os, signal, sys, threading
        reading, writing = os.pipe()
        def grow():
            if os.fork() == 0:
                if os.fork() == 0:
                    os.write(writing, b"ready")
                signal.alarm(30)
                signal.pause()
            dead = os.fork()
            if dead == 0:
                os._exit(0)
            os.waitid(os.P_PID, dead, os.WEXITED | os.WNOWAIT)
            print(os.read(reading, 5).decode(), flush=True)
            signal.pause()
        if sys.argv[1] == "the main thread":
            grow()
        threading.Thread(target=grow).start()
        signal.pause()
    """,
        forks_in,
    )
    found = children(parent.pid)
    walked = [p.pid for p in Tree(parent.pid).look() if p.parent == parent.pid]
    assert len(walked) == 2
    assert found is not None
    assert sorted(found) == sorted(walked)


def test_what_is_spared_is_spared_with_all_below_it(plant: Plant) -> None:
    chain = plant(CHAIN, "3")
    (first,) = [p for p in Tree(chain.pid).look() if p.parent == chain.pid]
    (second,) = [p for p in Tree(chain.pid).look() if p.parent == first.pid]
    assert Tree(chain.pid, {second.key}).look() == [first]
    handle = os.pidfd_open(first.pid)
    Tree(chain.pid, {first.key}).destroy()
    assert len(Tree(chain.pid).look()) == 3
    assert not dead_within(handle, 0.1)


def test_a_signal_does_not_reach_another_process_under_the_same_id(plant: Plant) -> None:
    stranger = plant(CHAIN, "0")
    process = read(stranger.pid)
    assert process is not None
    earlier = Process(
        process.pid, process.parent, process.group, process.session, process.start - 1, True
    )
    Tree(os.getpid()).send(earlier, signal.SIGKILL)
    handle = os.pidfd_open(stranger.pid)
    assert not dead_within(handle, 0.2)
    handle = os.pidfd_open(stranger.pid)
    Tree(os.getpid()).send(process, signal.SIGKILL)
    assert dead_within(handle, PATIENCE)


def test_a_signal_to_what_is_gone_is_nothing() -> None:
    child = subprocess.Popen(["sleep", "60"])
    process = read(child.pid)
    assert process is not None
    child.kill()
    child.wait()
    Tree(os.getpid()).send(process, signal.SIGTERM)
    assert read(child.pid) is None


def test_kill_all_kills_sessions_and_stopped_ones_but_not_the_root(plant: Plant) -> None:
    root = plant("""
        import os, signal, time
        pids = []
        for leave in (lambda: None, os.setsid, lambda: os.setpgid(0, 0)):
            pid = os.fork()
            if pid == 0:
                leave()
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                os.kill(os.getpid(), signal.SIGSTOP)
                time.sleep(30)
                os._exit(0)
            pids.append(pid)
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
        print("ready", flush=True)
        signal.pause()
    """)
    found = Tree(root.pid).look()
    assert len(found) == 3
    assert len({child.group for child in found}) == 3
    handles = [os.pidfd_open(child.pid) for child in found]
    assert Tree(root.pid).destroy()[1]
    for handle in handles:
        assert dead_within(handle, PATIENCE)
    assert root.process.poll() is None


def test_all_are_frozen_before_the_first_is_killed(plant: Plant) -> None:
    """Whoever is merely killed makes room under a limit for the fork of one that still runs."""

    class Looking(Tree):
        def _signal_each(self, processes: Sequence[Process], signum: int) -> None:
            if signum == signal.SIGKILL:
                until = now() + PATIENCE
                while (states := [state(each.pid) for each in processes]) != ["T"] * 3:
                    assert now() < until, f"not frozen: {states}"
            super()._signal_each(processes, signum)

    chain = plant(CHAIN, "3")
    handles = [os.pidfd_open(process.pid) for process in Tree(chain.pid).look()]
    assert len(handles) == 3
    assert Looking(chain.pid).destroy()[1]
    for handle in handles:
        assert dead_within(handle, PATIENCE)


def state(pid: int) -> str:
    """As in ps: R, S, T, Z, …"""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_kill_all_comes_to_an_end_where_the_number_of_processes_has_one(plant: Plant) -> None:
    """The frozen keep their places, so a root that refills to forty can add nothing any more."""
    root = plant("""
        import os, signal, time
        living = set()
        print("ready", flush=True)
        while True:
            while len(living) < 40:
                pid = os.fork()
                if pid == 0:
                    os.setsid()
                    time.sleep(30)
                    os._exit(0)  # a child that went on would fork as well, and so would its own
                living.add(pid)
            time.sleep(0.001)
            living -= {pid for pid in living if os.waitpid(pid, os.WNOHANG)[0]}
    """)
    until = now() + PATIENCE
    while len(Tree(root.pid).look()) < 40:
        assert now() < until
    first = {process.key for process in Tree(root.pid).look()}
    assert Tree(root.pid).destroy()[1]
    while first & {process.key for process in Tree(root.pid).look()}:
        assert now() < until


def test_orphans_are_found_under_a_subreaper_only(plant: Plant) -> None:
    program = """
        import ctypes, os, signal, sys
        if sys.argv[1] == "subreaper":
            assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
        reading, writing = os.pipe()
        if os.fork() == 0:
            pid = os.fork()
            if pid == 0:
                os.setsid()
                signal.alarm(30)
                signal.pause()
            os.write(writing, b"%d\\n" % pid)
            os._exit(0)
        os.wait()
        print(os.read(reading, 64).decode(), flush=True)
        signal.pause()
    """
    reaper, plain = plant(program, "subreaper"), plant(program, "plain")
    assert [p.pid for p in Tree(reaper.pid).look()] == [int(reaper.line)]
    assert Tree(plain.pid).look() == []
    os.kill(int(plain.line), signal.SIGKILL)


def test_the_groups_of_the_roots_own_session_are_not_killed_as_groups() -> None:
    """A hook that shares electctl's group must not take electctl's neighbours with it."""
    neighbour = subprocess.Popen(["sleep", "60"])
    code = (
        "import os, subprocess, sys; from electctl.campaign.tree import Tree\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "Tree(os.getpid()).destroy(); sys.exit(child.wait() == -9 and 5)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=PATIENCE).returncode == 5
    assert neighbour.poll() is None
    neighbour.kill()
    neighbour.wait()
