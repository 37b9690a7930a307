"""A helper that fails says why, wherever it fails: the guardian, and the releaser through it."""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from electctl.campaign import guard_process, helper, prctl, releasing, terminal, urgency
from electctl.campaign.cgroup import Cgroup
from electctl.campaign.guardian import Guardian, GuardianDied
from electctl.campaign.lookout import Lookout
from tests.guarded import LINUX_ONLY, Harness, eventually, guarded

pytestmark = LINUX_ONLY


def fail(*_: object, **__: object) -> None:
    raise RuntimeError("planted")


GUARDIANS = [
    (terminal, "step_aside"),
    (guard_process, "close_all_but"),
    (prctl, "rename"),
    (Cgroup, "make"),
    (guard_process, "_child_events"),
    (urgency.Urgency, "raised"),
    (guard_process._Guard, "serve"),
]


@pytest.mark.parametrize(("owner", "name"), GUARDIANS, ids=[name for _, name in GUARDIANS])
def test_a_guardian_that_fails_while_it_is_set_up_says_why(
    owner: object, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, fail)
    with guarded(tmp_path) as harness:
        report = harness.until(GuardianDied).report
        assert report.startswith("RuntimeError('planted') at fail:")
        assert " < run:" in report, "the whole way to it"


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda: os._exit(3), "the guardian process ended without a word: exit status 3"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), ""),
        (lambda: _die_of(signal.SIGSEGV), "the guardian process ended without a word: SIGSEGV"),
    ],
    ids=["exit", "killed", "segmentation fault"],
)
def test_how_a_guardian_ended_that_said_nothing(
    end: object, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prctl, "rename", lambda *_, **__: end())  # type: ignore[operator]
    with guarded(tmp_path) as harness:
        assert harness.until(GuardianDied).report == said


def _die_of(signum: int) -> None:
    signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
    os.kill(os.getpid(), signum)


# The releaser


def wait_for_end(end: socket.socket) -> None:
    while end.recv(4096):
        pass


@pytest.fixture
def spawned(tmp_path: Path) -> Iterator[list[Guardian]]:
    """What a test spawns here is closed at its end."""
    found: list[Guardian] = []
    with guarded(tmp_path):
        yield found
        for guardian in found:
            guardian.close()


def warned(guardian: Guardian, tmp_path: Path) -> str:
    """What the user is told of the releaser."""
    harness = Harness(guardian, tmp_path)

    def told() -> bool:
        harness.events += guardian.receive()
        return any("releaser" in warning for warning in guardian.warnings)

    eventually("a warning", told)
    assert not harness.events, "and nothing else has happened"
    return next(warning for warning in guardian.warnings if "releaser" in warning)


RELEASERS = [(releasing, "close_all_but"), (prctl, "hide_variable"), (Lookout, "run")]


@pytest.mark.parametrize(("owner", "name"), RELEASERS, ids=[name for _, name in RELEASERS])
def test_a_releaser_that_fails_while_it_is_set_up_says_why(
    owner: object,
    name: str,
    spawned: list[Guardian],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owner, name, fail)
    spawned.append(Guardian.spawn(wait_for_end))
    assert "(RuntimeError('planted') at fail:" in warned(spawned[0], tmp_path)


def test_a_releaser_that_fails_later_says_why(spawned: list[Guardian], tmp_path: Path) -> None:
    spawned.append(Guardian.spawn(fail))
    assert "(RuntimeError('planted') at fail:" in warned(spawned[0], tmp_path)


def test_its_words_may_be_heard_before_its_end() -> None:
    ours, its = releasing.Ends.pair()
    releaser = releasing.Releaser(ours)
    its.orders.send(b'{"failed": "no memory"}\n')
    assert releaser.last_words() == (" (no memory)", False)
    its.close()
    assert releaser.last_words() == (" (no memory)", True)
    ours.close()


def test_the_user_is_told_that_the_releaser_was_killed(
    spawned: list[Guardian], tmp_path: Path
) -> None:
    spawned.append(Guardian.spawn(lambda _end: os.kill(os.getpid(), signal.SIGKILL)))
    warning = warned(spawned[0], tmp_path)
    assert warning.endswith("the next leads only when the leadership has expired")


# What a fork takes along


class Litter:
    """In a circle, so that only the collector finds it; then it closes its descriptor."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.circle = self

    def __del__(self) -> None:
        os.close(self.handle)


def test_what_we_left_to_be_collected_closes_nothing_of_a_helper() -> None:
    """A long-lived process has circles that own sockets, whose numbers the helper uses anew."""
    try:
        gc.disable()
        Litter(number := os.open(os.devnull, os.O_RDONLY))

        def run() -> None:
            os.close(number)
            os.dup2(os.open("/", os.O_RDONLY), number)
            gc.collect()
            os.fstat(number)  # raises OSError if it is closed

        pid = helper.fork("test", run)
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        gc.enable()
        gc.collect()


def test_the_exit_status_of_a_helper_that_fails() -> None:
    assert os.waitstatus_to_exitcode(os.waitpid(helper.fork("test", fail), 0)[1]) == helper.FAILED
