"""The guardian where /proc hides processes, shows another namespace's, or is not there.

Each command runs under an electctl of its own in such a place; this process looks on from outside,
where everything is to be seen.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from electctl.campaign import procfs
from tests.guarded import LATE, LINUX_ONLY, Death, eventually

pytestmark = [
    LINUX_ONLY,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and mounts are root's to make"),
]

#: It says what it hears. With "killed" it kills its guardian, in place of a deadline.
DRIVER = """
import json, os, select, signal, sys, time
from electctl.base.clock import now
from electctl.campaign import cgroup, procfs
from electctl.campaign.guardian import Guardian, GuardianDied, Started, TreeGone
if sys.argv[1] == "no cgroup":
    cgroup.Cgroup.make = classmethod(lambda cls, guardian: None)
guardian = Guardian.spawn()
print(json.dumps([procfs.method()[0], guardian.warnings]), flush=True)
guardian.deadline(now() + 60, now() + 60)
guardian.start(sys.argv[3:], os.environ)
sys.stdin.readline()
at = now() + 0.5
if sys.argv[2] == "killed":
    os.kill(guardian.pid, signal.SIGKILL)
else:
    guardian.deadline(at - 0.2, at)
while True:
    select.select([guardian], [], [], 1)
    for event in guardian.receive():
        if isinstance(event, TreeGone):
            print(json.dumps([at, event.at]), flush=True)
            print(json.dumps(guardian.warnings), flush=True)
            guardian.close()
            sys.exit(0)
"""

HIDEPID = 'mount -t proc -o hidepid={} proc /proc && exec "$@"'
PLACES = {
    "hidepid=1": ["unshare", "-m", "sh", "-c", HIDEPID.format(1), "sh"],
    "hidepid=2": ["unshare", "-m", "sh", "-c", HIDEPID.format(2), "sh"],
    "another's /proc": ["unshare", "-pf"],
    "no /proc": ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"],
}
METHODS = {"another's /proc": "probe", "no /proc": "probe"}

#: Nobody's rights, but for reading what root has installed.
AS_NOBODY = [
    *("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"),
    *("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"),
]
#: The command cannot read its own program, so it is not dumpable, and hidden.
PLAIN = ["setpriv", "--inh-caps", "-all", "--ambient-caps", "-all"]


@pytest.fixture
def hidden() -> Iterator[Path]:
    """A sleep whose file nobody can read."""
    folder = Path(tempfile.mkdtemp(prefix="electctl"))
    folder.chmod(0o755)
    program = folder / "hidden-sleep"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    program.chmod(0o711)
    yield program
    shutil.rmtree(folder)


class Place:
    """An electctl in such a place, as nobody."""

    def __init__(self, place: str, how: str, script: str, cgroup: str = "no cgroup") -> None:
        self.process = subprocess.Popen(
            [
                *(*PLACES[place], *AS_NOBODY, sys.executable, "-c", DRIVER, cgroup, how),
                *(*PLAIN, "sh", "-c", script),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout
        self.method, self.warnings = json.loads(self.output.readline())

    def begin_to_end(self) -> None:
        """SIGTERM is due in 0.3 s, SIGKILL in 0.5 s."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def go(self) -> tuple[float, float]:
        """Let the end come; when it was due, and when all was said to be gone."""
        self.begin_to_end()
        due, gone = json.loads(self.output.readline())
        self.warnings = json.loads(self.output.readline())
        self.process.communicate(timeout=15)
        return due, gone


def running(mark: str) -> list[int]:
    """The processes that have ``mark`` as an argument, by what is seen from outside."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                arguments = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if mark.encode() in arguments[1:2]:
                found.append(int(folder.name))
    return found


def kill_all(mark: str) -> None:
    """Kill those processes; one may be gone before."""
    for pid in running(mark):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def mark() -> Iterator[str]:
    """A time to sleep that no other process sleeps for."""
    made = f"37.{os.getpid():07d}{time.monotonic_ns() % 100000:05d}"
    yield made
    kill_all(made)


@pytest.mark.parametrize("how", ["due", "killed"])
@pytest.mark.parametrize("place", PLACES)
def test_hidden_processes_and_daemons_die_before_they_are_said_to_be_gone(
    hidden: Path, mark: str, place: str, how: str
) -> None:
    """One in the command's group, one in another session, one whose parent is hidden as well."""
    script = (
        f"trap '' TERM; {hidden} {mark} & setsid -f {hidden} {mark}; "
        f"setsid -f sh -c 'setsid -f {hidden} {mark}; exec {hidden} {mark}'; exec {hidden} {mark}"
    )
    driver = Place(place, how, script)
    eventually("all run", lambda: len(running(mark)) == 5)
    assert driver.method == METHODS.get(place, "children")
    assert bool(driver.warnings) is (place in METHODS), "what is weaker is said"
    due, gone = driver.go()
    assert running(mark) == []
    if how == "due":
        assert due <= gone < due + LATE


LOSSES = {
    "taken away": ["umount", "-l", "/proc"],
    "covered": ["mount", "-t", "tmpfs", "none", "/proc"],
    "replaced by another's": ["unshare", "-pf", "mount", "-t", "proc", "none", "/proc"],
}


@pytest.mark.parametrize("how", ["due", "killed"])
@pytest.mark.parametrize("loss", LOSSES)
def test_daemons_die_also_if_proc_is_lost_while_the_command_runs(
    hidden: Path, mark: str, loss: str, how: str
) -> None:
    """As by a command that is root, and unmounts or mounts too much."""
    PLACES["its own mounts"] = ["unshare", "-m"]
    try:
        driver = Place("its own mounts", how, f"setsid -f {hidden} {mark}; exec {hidden} {mark}")
    finally:
        del PLACES["its own mounts"]
    eventually("all run", lambda: len(running(mark)) == 2)
    assert driver.method == "children"
    assert driver.warnings == []
    subprocess.run(["nsenter", "-m", "-t", str(driver.process.pid), *LOSSES[loss]], check=True)
    due, gone = driver.go()
    assert running(mark) == []
    if how == "due":
        assert gone < due + LATE
    (warning,) = driver.warnings
    assert warning.startswith("/proc "), "what is weaker now is said, once"


@pytest.mark.alone
@pytest.mark.parametrize("how", ["due", "killed"])
def test_a_command_that_takes_all_processes_of_its_user_dies_without_proc_too(
    hidden: Path, mark: str, how: str
) -> None:
    """The newest id is not known then, which a process forked for it would tell."""
    driver = Place(
        "no /proc", how, f"trap '' TERM; setsid -f {hidden} {mark}; exec {hidden} {mark}"
    )
    eventually("all run", lambda: len(running(mark)) == 2)
    for pid in (driver.process.pid, *(procfs.children(driver.process.pid) or ())):
        limit = ["prlimit", "--pid", str(pid), "--nproc=1:1"]
        subprocess.run([*AS_NOBODY, *limit], check=True)
    due, gone = driver.go()
    assert running(mark) == []
    if how == "due":
        assert due <= gone < due + LATE


@pytest.mark.parametrize("place", PLACES)
def test_what_obeys_is_told_to_stop(hidden: Path, mark: str, place: str) -> None:
    """In the command's own session also where nothing can be read."""
    driver = Place(place, "due", f"{hidden} {mark} & {hidden} {mark}")
    eventually("all run", lambda: len(running(mark)) == 2)
    due, gone = driver.go()
    assert due - 0.25 < gone < due, "SIGTERM came first, 0.2 s before"


@pytest.mark.parametrize("place", PLACES)
def test_those_below_a_command_that_stays_are_told_as_well(
    hidden: Path, mark: str, place: str
) -> None:
    driver = Place(place, "due", f"{hidden} {mark} & trap '' TERM; while :; do sleep 0.05; done")
    eventually("it runs", lambda: len(running(mark)) == 1)
    death = Death(running(mark)[0])
    driver.begin_to_end()
    died = death.at()
    due, gone = json.loads(driver.output.readline())
    driver.process.communicate(timeout=15)
    assert died < due - 0.05
    assert due <= gone < due + LATE


def test_strangers_under_the_same_ids_are_left_alone(hidden: Path, mark: str) -> None:
    """/proc shows the outer of two namespaces, in which the ids of the inner one are others'."""
    strangers = mark + "9"
    inner = 'unshare -pf "$@"'
    crowd = f"for i in $(seq 40); do sh -c 'sleep {strangers} & wait' & done; "
    PLACES["nested"] = ["unshare", "-pf", "--mount-proc", "sh", "-c", crowd + inner, "sh"]
    try:
        driver = Place(
            "nested", "due", f"trap '' TERM; setsid -f {hidden} {mark}; exec {hidden} {mark}"
        )
        eventually("all run", lambda: len(running(mark)) == 2 and len(running(strangers)) == 40)
        assert driver.method == "probe"
        driver.begin_to_end()
        due, gone = json.loads(driver.output.readline())
        alive = running(strangers)
        assert running(mark) == []
        assert due <= gone < due + LATE
        assert len(alive) == 40
    finally:
        del PLACES["nested"]
        kill_all(strangers)
        driver.process.communicate(timeout=15)
