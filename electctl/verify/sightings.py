"""What observers saw of one election on one clock, and when nobody looked.

What this does not guarantee: that two observers see a change at the same moment. A sighting lags
behind the store by an unknown time, so the order of two sightings counts within one observer's run
alone; observers who differ for long are a doubt, not a proof.
"""

from __future__ import annotations

from dataclasses import dataclass

from electctl.verify.verdict import DoubtKind, Doubts, Kind, Line, Violation

#: Nanoseconds for which two observers may see different leaders before that is a doubt.
LAG_NS = 2_000_000_000


@dataclass(slots=True)
class _Observer:
    views: frozenset[str]
    looking: bool = False
    #: The last line that named a leader, while it leads.
    seen: Line | None = None
    #: The line with the highest token.
    top: Line | None = None
    #: Whether the leader of ``top`` was seen gone.
    gone: bool = False


class Sightings:
    """Told in order of time."""

    __slots__ = ("_differ_since", "_doubts", "_ended", "_observers", "ever", "unwatched")

    def __init__(self, doubts: Doubts) -> None:
        self._doubts = doubts
        self._observers: dict[tuple[str, str], _Observer] = {}
        self._differ_since: Line | None = None
        #: Where the last observer stopped looking.
        self._ended: Line | None = None
        #: Whether anybody ever looked.
        self.ever = False
        #: The first deed of a leader while nobody looked.
        self.unwatched: Line | None = None

    def watches(self, view: str) -> bool:
        """Whether somebody who looks now records this view in full."""
        return any(view in seer.views for seer in self._observers.values() if seer.looking)

    def acted(self, line: Line) -> None:
        """A leader did something."""
        if self.unwatched is None and not self.watches("store"):
            self.unwatched = line

    def take(self, line: Line) -> Violation | None:
        """A line of an observer."""
        entry = line.entry
        match entry.event:
            case "recording":
                self._began(line)
            case "recorded":
                self._stop(line)
                self._observers.pop(_key(line), None)
            case "unreachable":
                self._stop(line)
            case _ if entry.data.get("certain") is False:
                self._stop(line)  # it was not seen who leads
            case _:
                return self._saw(line)
        return None

    def close(self, clock: str) -> None:
        """The end of what there is on this clock."""
        for (observer, _), seer in self._observers.items():
            if seer.looking:
                self._doubt(
                    "no_end",
                    f"the record of observer {observer} ends without saying so: it was killed, or "
                    "lines are missing",
                    seer.seen,
                )
        if self.unwatched is not None and self.ever:
            self._doubt(
                "gap", f"{self.unwatched.place}: nobody watched the store then", self.unwatched
            )

    def _began(self, line: Line) -> None:
        views = line.entry.data.get("views")
        seer = self._observers[_key(line)] = _Observer(frozenset(views or ("store",)))
        if views is not None:
            self._look(seer, line)

    def _look(self, seer: _Observer, line: Line) -> None:
        if seer.looking:
            return
        if self._ended is not None and "store" in seer.views and not self.watches("store"):
            self._doubt(
                "gap",
                f"nobody watched the store between {self._ended.place} and {line.place}",
                line,
            )
        seer.looking = True
        self.ever = self.ever or "store" in seer.views

    def _stop(self, line: Line) -> None:
        seer = self._observers.get(_key(line))
        if seer is None or not seer.looking:
            return
        seer.looking = False
        seer.seen = None
        self._compare(line)
        if "store" in seer.views and not self.watches("store"):
            self._ended = line

    def _saw(self, line: Line) -> Violation | None:
        entry = line.entry
        seer = self._observers.get(_key(line))
        if seer is None:
            self._doubt("no_beginning", f"{line.place}: its observer never began to record", line)
            seer = self._observers[_key(line)] = _Observer(frozenset(("store",)))
        self._look(seer, line)
        if entry.holder is None:
            seer.gone = True
            seer.seen = None
            self._compare(line)
            return None
        violation = None if entry.token is None else self._token(seer, line)
        seer.seen = line
        self._compare(line)
        return violation

    def _token(self, seer: _Observer, line: Line) -> Violation | None:
        entry, top = line.entry, seer.top
        token = entry.token
        assert token is not None
        highest = -1 if top is None else top.entry.token
        assert highest is not None
        if top is None or token > highest:
            seer.top, seer.gone = line, False
            return None
        lines = (top, line)
        if token < highest:
            message = f"an observer saw token {token} after token {highest}"
            return _violation("token_falls", message, lines)
        if entry.holder != top.entry.holder:
            message = f"token {token} was seen under two holders"
            return _violation("token_repeats", message, lines)
        if seer.gone:
            message = f"the leadership with token {token} came back after it had been seen gone"
            return _violation("grant_returned", message, lines)
        return None

    def _compare(self, line: Line) -> None:
        """Note since when two who look have seen different leaders, and whether that is long."""
        since = self._differ_since
        if since is not None:
            for_ns = line.entry.boottime_ns - since.entry.boottime_ns
            if for_ns > LAG_NS:
                self._doubt(
                    "observers_differ",
                    f"{since.place}: two observers see different leaders for {for_ns / 1e9:.1f} s",
                    line,
                )
        if len(self._observers) < 2:
            return
        leaders = {
            (seer.seen.entry.holder, seer.seen.entry.token)
            for seer in self._observers.values()
            if seer.seen is not None
        }
        if len(leaders) < 2:
            self._differ_since = None
        elif since is None:
            self._differ_since = line

    def _doubt(self, kind: DoubtKind, message: str, line: Line | None) -> None:
        entry = None if line is None else line.entry
        self._doubts.add(
            kind,
            message,
            "" if entry is None else entry.backend,
            "" if entry is None else entry.election,
        )


def _violation(kind: Kind, message: str, lines: tuple[Line, ...]) -> Violation:
    entry = lines[0].entry
    return Violation(kind, message, entry.backend, entry.election, "store", lines=lines)


def _key(line: Line) -> tuple[str, str]:
    data = line.entry.data
    return (str(data.get("observer", "")), str(data.get("url", "")))
