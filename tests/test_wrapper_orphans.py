"""Orphans: electctl adopts them, as PID 1 of a container or as a subreaper, and waits for them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from electctl.campaign import procfs, strays
from electctl.lab.cluster import Cluster
from tests.campaigns import Campaign
from tests.guarded import LINUX_ONLY
from tests.processes import Electctl, wait_for

pytestmark = LINUX_ONLY

READY = ("sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done")


@pytest.fixture
def contain(electctl: Electctl, redis_url: str, election: str) -> Iterator[Callable[..., int]]:
    """Run a campaign as PID 1 of a PID namespace; its process, as it is seen from outside."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str, command: tuple[str, ...] = ()) -> int:
        argv = ["unshare", "--pid", "--fork", "--mount-proc", "electctl", "campaign", election]
        argv += ["-b", redis_url, "-q", *options, *(("--", *command) if command else ())]
        started.append(subprocess.Popen(argv, env=electctl.env, stdout=subprocess.DEVNULL))
        inner = wait_for(lambda: procfs.children(started[-1].pid))
        assert inner is not None
        return inner[0]

    yield start
    for process in started:
        for child in procfs.children(process.pid) or []:
            os.kill(child, 9)
        process.wait()


def orphan(container: int) -> None:
    """As docker exec leaves one: its parent is gone before it."""
    subprocess.run(
        ["nsenter", "-t", str(container), "-p", "-m", "sh", "-c", "(sleep 0.05 &); true"],
        check=True,
    )


def has_adopted(container: int) -> bool:
    return any(comm(pid) == "sleep" for pid in procfs.children(container) or [])


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def zombies(parent: int) -> list[int]:
    found = [procfs.read(child) for child in procfs.children(parent) or []]
    return [process.pid for process in found if process is not None and not process.alive]


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("nsenter"), reason="a namespace is root's"
)
@pytest.mark.parametrize("where", ["waiting", "leading", "without a command", "between two terms"])
def test_pid_1_waits_for_what_it_adopts(
    contain: Callable[..., int], redis_cluster: Cluster, election: str, where: str
) -> None:
    server = redis.Redis.from_url(redis_cluster.url)
    if where == "waiting":
        server.set(election, "a-foreign-tool", px=60_000)
    options = ("--keep",) if where == "between two terms" else ()
    command = {"leading": READY, "between two terms": ("false",)}.get(where, ())
    container = contain(*options, command=command)
    if where != "waiting":
        wait_for(lambda: server.exists(election))
    for _ in range(3):
        orphan(container)
        # All that is left are the guardian and the like.
        wait_for(lambda: not has_adopted(container), 10, what="no orphan is left, nor a zombie")
    assert zombies(container) == []


def test_a_subreaper_waits_for_what_an_on_lost_hook_leaves(
    electctl: Electctl, redis_url: str, redis_cluster: Cluster, election: str
) -> None:
    """While the hook still runs, and although its own exit code must not be taken from it."""
    hook = "(sleep 0.1 &); sleep 1; exit 3"
    campaign = Campaign(electctl, redis_url, election, "--on-lost", hook, command=READY)
    campaign.printed("ready")
    redis.Redis.from_url(redis_cluster.url).delete(election)
    campaign.event("lost")
    ours = campaign.process.pid
    wait_for(lambda: any(comm(pid) == "sleep" for pid in procfs.children(ours) or []))
    wait_for(lambda: not any(comm(pid) == "sleep" for pid in procfs.children(ours) or []))
    assert campaign.process.poll() is None
    assert "exit code 3" in campaign.event("warning")["message"]
    campaign.end(79)


@contextmanager
def child(status: int) -> Iterator[int]:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {status}"], os.environ)
    wait_for(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG))
    yield pid


def test_our_own_and_those_of_other_threads_are_left_to_their_owners() -> None:
    with child(4) as ours:
        strays.reap({ours})
        assert os.waitpid(ours, 0)[1] >> 8 == 4
    with child(4) as stray:
        strays.reap(set())
        with pytest.raises(ChildProcessError):
            os.waitpid(stray, 0)
    program = (
        "import os, subprocess, threading, time\n"
        "from electctl.campaign import strays\n"
        "done, ended = threading.Event(), threading.Event()\n"
        "def work():\n"
        "    process = subprocess.Popen(['sh', '-c', 'exit 5'])\n"
        "    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)\n"
        "    ended.set(); done.wait()\n"
        "    print(process.wait())\n"
        "thread = threading.Thread(target=work); thread.start()\n"
        "ended.wait(); strays.reap(set()); done.set(); thread.join()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "5\n", done.stderr
