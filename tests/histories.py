"""Histories made up for the checker: a small world that obeys the rules, and what may be written.

What this does not cover: what real servers do; that is in tests/test_verify_real.py.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from electctl.record import chain

Obj = dict[str, Any]
SECOND = 1_000_000_000
MS = 1_000_000


def line(
    event: str, at: int, holder: str | None = None, token: int | None = None, **more: Any
) -> Obj:
    """One line with what all lines have. ``at`` in nanoseconds."""
    return {
        "ts": "2026-01-31T02:00:04.118Z",
        "event": event,
        "election": "nightly",
        "backend": "redis",
        "holder": holder,
        "token": token,
        "boot_id": "boot-1",
        "boottime_ns": at,
        **more,
    }


def seen(
    event: str, at: int, holder: str | None = None, token: int | None = None, **more: Any
) -> Obj:
    """A line of an observer."""
    return line(event, at, holder, token, **{"observer": "eye-1", "url": "redis://a", **more})


def did(event: str, at: int, who: str, token: int | None = None, **more: Any) -> Obj:
    """A line of a campaign."""
    holder = None if token is None else who
    return line(event, at, holder, token, candidate=who, **more)


def write(path: Path, lines: list[Obj]) -> Path:
    """A file of lines as they are."""
    path.write_text("".join(json.dumps(obj) + "\n" for obj in lines))
    return path


def sealed(path: Path, lines: list[Obj]) -> Path:
    """A record: the lines of each observer chained."""
    runs: dict[str, tuple[int, str]] = {}
    last = ""
    with path.open("wb") as stream:
        for obj in lines:
            fields = {key: value for key, value in obj.items() if key != "observer"}
            n, prev = runs.get(obj["observer"], (0, last))
            raw, following = chain.seal(fields, obj["observer"], n, prev)
            runs[obj["observer"]] = (n + 1, following)
            last = chain.digest(raw)
            stream.write(raw)
    return path


class World:
    """Elections as they may be: one store, candidates that keep the rules, observers that lag.

    ``faults`` lets candidates crash and pause, observers lose contact: nothing that breaks a rule,
    but much that leaves something unknown.
    """

    def __init__(self, rng: random.Random, *, faults: bool) -> None:
        self.rng = rng
        self.faults = faults
        self.now = rng.randrange(10, 1000) * SECOND
        self.token = 0
        self.campaigns: dict[str, list[Obj]] = {}
        self.observers: list[list[Obj]] = []
        self.ledger: list[Obj] = []
        self._truth: list[tuple[int, str | None, int | None]] = []
        self._version = 0
        self._stamp: tuple[int, int] | None = None

    def run(self, terms: int) -> None:
        """Some terms, and what observers made of them."""
        start = self.now
        self._truth.append((start, None, None))
        self._pass()
        for _ in range(terms):
            self._term(self.rng.choice(("a", "b", "c")))
        self._pass()
        for number in range(self.rng.randrange(1, 3)):
            self.observers.append(self._observe(f"eye-{number}", start, self.now))

    def _pass(self, most: float = 2.0) -> int:
        self.now += 1 + self.rng.randrange(int(most * SECOND))
        return self.now

    def _term(self, who: str) -> None:
        told = self.campaigns.setdefault(who, [])
        told.append(did("campaigning", self._pass(), who))
        self.token += self.rng.randrange(1, 4)
        token = self.token
        self._truth.append((self._pass(0.01), who, token))
        valid = self.now + 10 * SECOND
        told.append(did("elected", self._pass(0.01), who, token, remaining=9.9))
        command = self.rng.random() < 0.7
        if command:
            told.append(did("command_started", self._pass(0.01), who, token, pid=7))
        for _ in range(self.rng.randrange(3)):
            self._pass(1.0)
            valid = self.now + 10 * SECOND
            if self.rng.random() < 0.5:
                left = (valid - self.now) / SECOND
                told.append(
                    did("renewal_failed", self.now, who, token, cause="time-out", remaining=left)
                )
            self._touch(token)
        ends = ["released", "evicted", "expired", "guardian_died"]
        if self.faults:
            ends += ["crash", "paused", "silent"]
        how = self.rng.choice(ends)
        getattr(self, f"_{how}")(told, who, token, command, valid)

    def _touch(self, token: int) -> None:
        """Writes and reads of the checkpoint, by this leader; perhaps a stale one is refused."""
        began = self._pass(0.01)
        outcome = self.rng.choice(("accepted", "accepted", "refused", "unknown"))
        version = self._version + 1
        acted = outcome == "accepted" or (outcome == "unknown" and self.rng.random() < 0.5)
        name = {"resource": "checkpoint", "began_ns": began}
        value = f"v{version}"
        self.ledger.append(
            line("write", self._pass(0.01), "x", token, **name)
            | {"outcome": outcome, "version": version, "value": value}
        )
        self._version = version
        if acted:
            self._stamp = (token, version)
        if self.rng.random() < 0.5:
            began = self._pass(0.01)
            found = self._stamp
            read = line("read", self._pass(0.01), None, None if found is None else found[0])
            read |= {"resource": "checkpoint", "began_ns": began}
            if found is not None:
                read |= {"version": found[1], "value": f"v{found[1]}"}
            self.ledger.append(read)
        if self.rng.random() < 0.3 and self.token > 1:
            self.ledger.append(
                line("write", self._pass(0.01), "x", token - 1, resource="checkpoint")
                | {"outcome": "refused", "version": 10_000}
            )

    def _gone(self, told: list[Obj], who: str, token: int, command: bool, valid: int) -> None:
        if command:
            told.append(did("command_exited", self._pass(0.01), who, token, exit=0))
            elected = max(o["boottime_ns"] for o in told if o["event"] == "elected")
            # It is known only afterwards, of a short command even before its start is told.
            gone = max(elected + 1, self.now - self.rng.choice((1000, 10**7)))
            told.append(
                did("command_gone", gone, who, token, margin_ms=max(0, (valid - gone) // 10**6))
            )

    def _give_back(self, told: list[Obj], who: str, token: int, until: int) -> None:
        """The store frees it while the answer is still under way: the next may be told first."""
        self._truth.append((self._pass(0.001), None, None))
        told.append(did("released", self.now + self.rng.randrange(SECOND), who, token))
        told[-1]["led_until_ns"] = until
        told.append(did("finished", told[-1]["boottime_ns"] + 1, who, outcome="completed"))

    def _released(self, told: list[Obj], who: str, token: int, command: bool, valid: int) -> None:
        self._gone(told, who, token, command, valid)
        self._give_back(told, who, token, self._pass(0.001))

    def _evicted(self, told: list[Obj], who: str, token: int, command: bool, valid: int) -> None:
        self._gone(told, who, token, command, valid)
        self._lost(told, who, token, "evicted", self._pass(0.001))
        self._give_back(told, who, token, told[-1]["led_until_ns"])

    def _guardian_died(
        self, told: list[Obj], who: str, token: int, command: bool, valid: int
    ) -> None:
        self._lost(told, who, token, "guardian_died", self._pass(0.01))
        until = told[-1]["led_until_ns"]
        self._gone(told, who, token, command, valid)
        self._give_back(told, who, token, until)

    def _expired(self, told: list[Obj], who: str, token: int, command: bool, valid: int) -> None:
        self.now = max(self.now, valid - 3 * SECOND)
        self._lost(told, who, token, "expired", self.now)
        self._gone(told, who, token, command, valid)
        self._truth.append((valid + SECOND // 2, None, None))
        self.now = valid + SECOND // 2

    def _paused(self, told: list[Obj], who: str, token: int, command: bool, valid: int) -> None:
        """electctl is stopped; its guardian keeps the deadline, it tells of it all much later."""
        if command:
            gone = valid - self.rng.randrange(1, SECOND // 10)
            told.append(did("command_gone", gone, who, token, margin_ms=(valid - gone) // 10**6))
        awake = valid + self.rng.randrange(1, 30) * SECOND
        if command:
            told.append(did("command_exited", awake, who, token, exit=137))
        self._lost(told, who, token, "expired", awake + 1, until=valid)
        told.append(did("finished", awake + 2, who, outcome="lost"))
        self._truth.append((valid + SECOND // 2, None, None))
        self.now = valid + SECOND // 2

    def _crash(self, told: list[Obj], who: str, token: int, command: bool, valid: int) -> None:
        """Its record ends here."""
        self.now = valid + SECOND // 2
        self._truth.append((self.now, None, None))

    def _silent(self, told: list[Obj], who: str, token: int, command: bool, valid: int) -> None:
        """The release was not delivered: nothing is said but that it is over."""
        self._gone(told, who, token, command, valid)
        told.append(did("finished", self._pass(0.01), who, outcome="completed"))
        self.now = valid + SECOND // 2
        self._truth.append((self.now, None, None))

    def _lost(
        self, told: list[Obj], who: str, token: int, reason: str, at: int, until: int | None = None
    ) -> None:
        until = at if until is None else until
        told.append(did("lost", at, who, token, reason=reason, message="", led_until_ns=until))

    def _observe(self, name: str, start: int, end: int) -> list[Obj]:
        """What one observer saw, each change a little late, and not all of them."""
        own: Obj = {"observer": name}
        lines = [seen("recording", start - 2 * SECOND, **own)]
        lines.append(seen("vacant", start - SECOND, **own))
        lost = False
        for at, holder, token in self._truth[1:]:
            late = at + self.rng.randrange(SECOND // 100 if not self.faults else SECOND)
            late = max(late, lines[-1]["boottime_ns"] + 1)
            if self.faults and not lost and self.rng.random() < 0.1:
                lines.append(seen("unreachable", late, cause="time-out", **own))
                lost = True
                continue
            if lost:
                if self.rng.random() < 0.5:
                    continue
                lines.append(seen("recovered", late, holder, token, **own))
                lost = False
                late += 1
            if holder is None and self.rng.random() < 0.2:
                continue  # the next one led before it was asked
            lines.append(seen("vacant" if holder is None else "holder", late, holder, token, **own))
            if self.rng.random() < 0.2:
                lines.append(seen("waiting", late + 1, holder, token, waiting=["z"], **own))
        ended = max(end, lines[-1]["boottime_ns"]) + 40 * SECOND
        if not self.faults or self.rng.random() < 0.8:
            lines.append(seen("recorded", ended, **own))
        return lines

    def files(self, home: Path) -> list[Path]:
        """All of it, one file a campaign or one for all, late lines and all; shuffled."""
        rng = self.rng
        found = []
        merged = sorted(
            (obj for told in self.observers for obj in told), key=lambda obj: obj["boottime_ns"]
        )
        if rng.random() < 0.5:
            found.append(sealed(home / "watch", merged))
        else:
            found += [sealed(home / f"watch-{n}", told) for n, told in enumerate(self.observers)]
        told = [*self.campaigns.values(), self.ledger]
        if rng.random() < 0.5:
            rng.shuffle(told)
            found.append(write(home / "all", [obj for part in told for obj in part]))
        else:
            found += [write(home / f"part-{n}", part) for n, part in enumerate(told)]
        rng.shuffle(found)
        return found


def term(who: str, token: int | None, at: int) -> list[Obj]:
    """One term of 60 ms with a command, all in order."""
    return [
        did("campaigning", at, who),
        did("elected", at + 10 * MS, who, token, remaining=9.8),
        did("command_started", at + 20 * MS, who, token, pid=7),
        did("command_exited", at + 40 * MS, who, token, exit=0),
        did("command_gone", at + 45 * MS, who, token, margin_ms=9000),
        did("released", at + 60 * MS, who, token, led_until_ns=at + 50 * MS),
        did("finished", at + 61 * MS, who, outcome="completed", exit_code=0, message=""),
    ]


def watched(*terms: tuple[str, int | None, int]) -> list[Obj]:
    """What an observer saw of such terms."""
    lines = [seen("recording", 1), seen("vacant", 2)]
    for who, token, at in terms:
        lines += [seen("holder", at + 11 * MS, who, token), seen("vacant", at + 52 * MS)]
    return [*lines, seen("recorded", lines[-1]["boottime_ns"] + 1000 * MS)]


TERMS = (("a", 5, 100 * MS), ("b", 6, 300 * MS))


def good() -> tuple[list[Obj], list[Obj], list[Obj]]:
    """A record, and what two campaigns told, that hold."""
    return watched(*TERMS), term(*TERMS[0]), term(*TERMS[1])
