"""A candidacy that answers what a test says, and a backend that hands it out."""

from __future__ import annotations

import threading
from collections.abc import Callable

from electctl_file import TRAITS
from electctl_file.backend import FileBackend

from electctl.base.clock import now
from electctl.contract.backend import Bid, Candidacy, Grant, Renewal
from electctl.contract.traits import Traits
from electctl.contract.url import BackendURL
from electctl.errors import (
    ElectctlError,
    OutcomeUnknown,
    Unreachable,
)

Answer = Callable[["Scripted", float | None], Grant | None]


class Scripted(Candidacy):
    """Gives one answer after another; the last one again and again."""

    def __init__(self, bid: Bid, answers: list[Answer]) -> None:
        self.bid = bid
        self.answers = answers
        self.asked: list[float] = []
        self.log: list[str] = []
        self.cancelled = threading.Event()

    def acquire(self, deadline: float | None) -> Grant | None:
        self.asked.append(now())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer(self, deadline)

    def renew(self) -> Renewal:
        return Renewal(now(), self.bid.ttl)

    def release(self) -> None:
        self.log.append("release")

    def cancel(self) -> None:
        self.cancelled.set()

    def close(self) -> None:
        self.log.append("close")


class ScriptedBackend(FileBackend):
    """Hands one scripted candidacy out."""

    def __init__(self, answers: list[Answer], traits: Traits = TRAITS) -> None:
        super().__init__(BackendURL.parse("file:///nowhere"))
        self.answers = answers
        self.given: list[Scripted] = []
        self._traits = traits

    @property
    def traits(self) -> Traits:
        return self._traits

    def candidacy(self, bid: Bid) -> Candidacy:
        self.given.append(Scripted(bid, self.answers))
        return self.given[-1]


def win(candidacy: Scripted, deadline: float | None) -> Grant:
    candidacy.contacted = True
    return Grant(1, now(), candidacy.bid.ttl)


def granting(ttl: float) -> Answer:
    def answer(candidacy: Scripted, deadline: float | None) -> Grant:
        candidacy.contacted = True
        return Grant(1, now(), ttl)

    return answer


def raising(error: ElectctlError, *, contacted: bool) -> Answer:
    def answer(candidacy: Scripted, deadline: float | None) -> Grant | None:
        candidacy.contacted = candidacy.contacted or contacted
        raise error

    return answer


def wait_in_vain(candidacy: Scripted, deadline: float | None) -> None:
    candidacy.contacted = True
    candidacy.rival = ""
    candidacy.cancelled.wait(None if deadline is None else max(0.0, deadline - now()))


DOWN = raising(Unreachable("down"), contacted=False)
CUT = raising(OutcomeUnknown("cut"), contacted=True)
