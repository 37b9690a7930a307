"""The warden between the machine that decides and real processes."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import subprocess

import pytest

from electctl.campaign import stopping, warden
from electctl.campaign.channel import Deadline
from electctl.campaign.process import UNKNOWN_START, Process
from electctl.campaign.tree import Tree
from electctl.campaign.warden import Warden
from tests.guarded import LINUX_ONLY

pytestmark = LINUX_ONLY


def test_the_group_is_killed_at_once_but_not_when_its_id_may_be_anothers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A group's id is its own as long as its leader was not waited for."""
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(warden, "signal_group", lambda *args: killed.append(args))
    command = subprocess.Popen(["sleep", "60"], start_new_session=True)
    late = Deadline(math.inf, math.inf)
    one = Warden(command.pid, Tree(os.getpid(), main=command.pid), late, print, grouped=True)
    one.feed(stopping.Kill())
    assert killed == [(command.pid, signal.SIGKILL)]
    one.reaped(*os.waitpid(command.pid, 0))
    command.returncode = -signal.SIGKILL
    killed.clear()
    one._destroy()
    assert killed == []


class Hides(Tree):
    """A tree with one process of which nothing can be read; records what it is sent."""

    def __init__(self, hidden: Process) -> None:
        super().__init__(os.getpid(), method="children")
        self.hidden = hidden
        self.sent: list[int] = []

    def look(self) -> list[Process]:
        return [self.hidden]

    def send(self, process: Process, *signals: int) -> None:
        assert process == self.hidden
        self.sent += signals


def test_what_was_waited_for_is_forgotten_because_its_id_is_used_again() -> None:
    """SIGTERM goes to each process once; without a start the id alone tells who that was."""
    tree = Hides(Process(4711, os.getpid(), 4711, 4711, UNKNOWN_START, True))
    late = Deadline(math.inf, math.inf)
    one = Warden(4710, tree, late, print, grouped=True)
    for _ in range(2):
        one.feed(stopping.Signal(signal.SIGTERM))
    assert tree.sent.count(signal.SIGTERM) == 1
    one.reaped(4711, 0)
    one.feed(stopping.Signal(signal.SIGTERM))
    assert tree.sent.count(signal.SIGTERM) == 2


def test_what_is_killed_runs_before_others_if_it_is_a_child_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another's id can be used again at any moment."""
    hastened: list[int] = []
    monkeypatch.setattr(warden, "hasten", hastened.append)
    monkeypatch.setattr(warden, "signal_group", lambda *_: None)
    ours = Process(4711, os.getpid(), 4711, 4711, 1, True)
    for found in (
        ours,
        dataclasses.replace(ours, pid=4712, parent=4711),
        dataclasses.replace(ours, pid=4713, alive=False),
    ):
        tree = Hides(found)
        one = Warden(4710, tree, Deadline(math.inf, math.inf), print, grouped=True)
        one.feed(stopping.Kill())
        assert signal.SIGKILL in tree.sent or not found.alive
    assert hastened == [4711]
