"""A command that stops, holds or kills those who should stop it is dead before another leads.

Real campaigns on a real Redis, over a link that then carries nothing any more. What is held is
really held: by SIGSTOP, by ptrace(2), by the freezer of a cgroup.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from electctl.campaign import cgroup
from electctl.core.elector import connect
from electctl.lab.cluster import Cluster
from electctl.lab.proxy import Proxy
from tests.campaigns import Campaign
from tests.guarded import LINUX_ONLY, eventually, lives, pids
from tests.processes import Electctl

pytestmark = [LINUX_ONLY, pytest.mark.server, pytest.mark.quiet]

HOME = cgroup._home()
DIVIDED = HOME is not None and os.geteuid() == 0 and cgroup._may_divide(HOME)

#: Has a daemon that leaves its session, its group and its cgroup, and then attacks.
PROGRAM = """
import ctypes, os, signal, sys, time
file, home, freezer, attack = sys.argv[1:]
signal.signal(signal.SIGTERM, signal.SIG_IGN)
main, guardian = os.getpid(), os.getppid()
electctl = int(open(f"/proc/{guardian}/stat").read().rpartition(")")[2].split()[1])
with open("/proc/self/cgroup") as cgroups:
    name = next(line for line in cgroups if line.startswith("0::"))
ours = home + "/" + name.strip().rpartition("/")[2]
def move(pid, group):
    with open(group + "/cgroup.procs", "w") as procs:
        procs.write(str(pid))
def freeze():
    move(guardian, freezer)
    with open(freezer + "/cgroup.freeze", "w") as state:
        state.write("1")
def trace():
    if os.fork():
        return
    os.setsid()
    libc = ctypes.CDLL(None)
    libc.ptrace(0x4206, guardian, 0, 0)  # PTRACE_SEIZE
    libc.ptrace(0x4207, guardian, 0, 0)  # PTRACE_INTERRUPT
    while True:
        time.sleep(1)
def send(pid, name):
    os.kill(pid, getattr(signal, name))
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        if home:
            move(0, home)
        with open(file, "a") as written:
            written.write(f"{main}\\n{guardian}\\n{electctl}\\n{os.getpid()}\\n")
        exec(attack)
        with open(file, "a") as written:
            written.write("0\\n")
        while True:
            time.sleep(1)
    os._exit(0)
os.wait()
while True:
    time.sleep(1)
"""


@pytest.fixture
def freezer(tmp_path: Path) -> Iterator[Path]:
    """A cgroup that can be frozen, thawed at the end."""
    if not DIVIDED or HOME is None:
        yield tmp_path
        return
    group = HOME / f"held-{os.getpid()}"
    group.mkdir()
    yield group
    (group / "cgroup.freeze").write_text("0")
    eventually("it is empty", lambda: (group / "cgroup.procs").read_text() == "")
    group.rmdir()


@pytest.mark.parametrize(
    "attack",
    [
        "send(electctl, 'SIGSTOP'); send(guardian, 'SIGSTOP')",
        "send(electctl, 'SIGSTOP'); send(guardian, 'SIGKILL')",
        # What is older than a glance of the third is known to it.
        "time.sleep(2); send(electctl, 'SIGKILL'); send(guardian, 'SIGKILL')",
        "trace()",
        "trace(); send(electctl, 'SIGKILL')",
        "freeze()",
        "move(guardian, ours); send(electctl, 'SIGKILL')",
        "move(guardian, ours); move(electctl, ours)",
    ],
)
def test_dead_before_another_leads(
    electctl: Electctl,
    redis_cluster: Cluster,
    election: str,
    tmp_path: Path,
    freezer: Path,
    attack: str,
) -> None:
    if ("freeze()" in attack or "ours" in attack) and not DIVIDED:
        pytest.skip("our own control group may not be divided here")
    file = tmp_path / "pids"
    home = str(HOME) if DIVIDED else ""
    argv = (sys.executable, "-ISc", PROGRAM, str(file), home, str(freezer), attack)
    with Proxy(redis_cluster.entrances[0].address) as link:
        url = redis_cluster.url_for([link.address])
        campaign = Campaign(electctl, url, election, command=argv, ttl="2s", result=False)
        main, guardian, process, daemon, _ = pids(file, 5)
        link.swallow()
        try:
            with (
                connect(redis_cluster.url) as elector,
                elector.campaign(election, "second", wait=20.0) as leadership,
            ):
                left = [pid for pid in (main, daemon) if lives(pid)]
                assert leadership.remaining() > 0
                assert left == [], f"of {main, daemon}; {campaign.stderr}"
        finally:
            for pid in (main, daemon, guardian, process):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                    os.kill(pid, signal.SIGKILL)
            campaign.process.wait()
