"""One election: what campaigns, observers and other people's programs say of it, held together.

What this does not guarantee: anything between two clocks. What is said on one boot of one machine
is ordered by its clock; of what is said on another only tokens and names are compared.

Three views are kept apart. In the *store* somebody leads; a candidate takes itself for the leader
(*belief*); its command is alive (*effect*). A campaign's belief begins with ``elected`` and ends at
``led_until_ns`` of ``lost`` or ``released``, when it gave up, which is before the store and the
next leader hear of it. Its effect ends with ``command_gone``, when the last process was gone.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from electctl.verify.lane import Grant, Lane, Overlap
from electctl.verify.resource import Resource
from electctl.verify.sightings import Sightings
from electctl.verify.verdict import VIEWS, DoubtKind, Doubts, Kind, Line, Stretch, View, Violation

if TYPE_CHECKING:
    from collections.abc import Callable

#: Of what has been, the newest is remembered.
_REMEMBERED = 64
_TERMS = 4
_TOKENS = 4
_PENDING = 64


@dataclass(slots=True)
class _Ended:
    """What is known of the end of a campaign's term."""

    reason: str | None = None
    #: The end of its command, if that came after the lease's.
    late: Line | None = None
    released: Line | None = None
    #: The end of a command of whose start nothing was told yet: it may be told late.
    gone: Line | None = None


class Election:
    """Told in order of time, one clock after the other; :meth:`close` after each."""

    __slots__ = (
        "_believed",
        "_clocks",
        "_doubts",
        "_lanes",
        "_names",
        "_no_effect",
        "_pending",
        "_resources",
        "_seen",
        "_terms",
        "_tops",
        "_unseen",
        "backend",
        "name",
        "overlap",
    )

    def __init__(self, backend: str, name: str, doubts: Doubts) -> None:
        self.backend = backend
        self.name = name
        #: The first two who led at once.
        self.overlap: tuple[View, Overlap] | None = None
        self._doubts = doubts
        self._lanes: dict[View, Lane] = {}
        #: The line that began the newest leadership, in each view.
        self._tops: dict[View, Line] = {}
        self._seen: Sightings | None = None
        self._resources: dict[str, Resource] = {}
        self._terms: OrderedDict[Grant, _Ended] = OrderedDict()
        # What outlives a clock.
        self._clocks: dict[str, str] = {}
        self._names: OrderedDict[int, Line] = OrderedDict()
        self._believed: OrderedDict[Grant, None] = OrderedDict()
        #: Leaders in the store of whom no campaign has told yet.
        self._pending: OrderedDict[Grant, Line] = OrderedDict()
        self._no_effect: OrderedDict[Grant, Line] = OrderedDict()
        #: The first deed of a leader whom nobody's record of the store covers.
        self._unseen: Line | None = None

    def take(self, line: Line, clock: str) -> Violation | None:
        """One line of it, of any kind."""
        if line.entry.event in _SIGHTINGS:
            return self._sighting(line)
        handler = _HANDLERS.get(line.entry.event)
        if handler is None:
            self._doubt("unknown_event", f"{line.place}: there is no event {line.entry.event!r}")
            return None
        return handler(self, line, clock)

    def close(self, clock: str) -> None:
        """There is nothing more on this clock."""
        for view, lane in self._lanes.items():
            span = lane.unfinished()
            if span is not None or lane.dropped:
                where = "" if span is None else f"{span.last.place}: "
                whose = "leaders" if span is None else f"{span.grant[0]!r}"
                self._doubt(
                    "no_end",
                    f"{where}no line says until when {whose} led ({VIEWS[view]}), and another one "
                    "led after that",
                )
        if self._seen is not None:
            self._seen.close(clock)
            if self._seen.ever:
                self._clock("store", clock)
            elif self._unseen is None:
                self._unseen = self._seen.unwatched
        for term in self._terms.values():
            self._forget_term(term)
        self._lanes, self._tops, self._resources = {}, {}, {}
        self._seen = None
        self._terms.clear()

    def finish(self) -> None:
        """There is nothing more at all: what is missing is missing."""
        if self._unseen is not None and "store" not in self._clocks:
            self._doubt(
                "no_observer",
                f"{self._unseen.place}: nobody recorded who leads in the store "
                "(electctl watch --record), so that others may have led",
            )
        elif self._unseen is not None:
            self._clock("store", "")
        for line in self._pending.values():
            self._doubt(
                "no_campaign",
                f"{line.place}: {_who(line)} led in the store, and no campaign's record "
                "(electctl campaign --events) tells what it believed and did",
            )
        for line in self._no_effect.values():
            self._doubt("no_effect", f"{line.place}: no line tells what {_who(line)} did")

    # Campaigns -----------------------------------------------------------------------------------

    def _nothing(self, line: Line, clock: str) -> Violation | None:
        return None

    def _elected(self, line: Line, clock: str) -> Violation | None:
        grant = self._deed(line)
        self._no_effect.pop(grant, None)
        # Where there are no tokens, the last term of this candidate looks the same.
        self._forget_term(self._terms.pop(grant, None))
        self._lane("effect").forget(grant)
        return self._begin("belief", line, clock, grant, anew=True)

    def _still_leads(self, line: Line, clock: str) -> Violation | None:
        grant = self._deed(line)
        # A renewal that is confirmed late says nothing of now, one that failed counts what is left.
        if line.entry.data.get("remaining", 0) > 0:
            return self._prove("belief", line, clock, grant)
        return None

    def _started(self, line: Line, clock: str) -> Violation | None:
        grant = self._deed(line)
        # After a loss it may be told of late: it had been started before. Not so after a release.
        released = self._term(grant).released
        if released is not None:
            message = f"{_who(line)} started its command after it had given the leadership back"
            return self._violation("acts_after_end", message, None, released, line)
        if self._lane("effect").ended(grant):
            self._term(grant).gone = None  # told late: the command had ended before
            return None
        return self._begin("effect", line, clock, grant)

    def _gone(self, line: Line, clock: str) -> Violation | None:
        grant = self._deed(line)
        if line.entry.data.get("margin_ms", 0) < 0:
            self._term(grant).late = line
        lane = self._lane("effect")
        if grant not in lane.open and not lane.ended(grant):
            lane.closed.append(grant)
            self._term(grant).gone = line
        return self._end("effect", line, clock, grant, line.entry.boottime_ns) or self._late(grant)

    def _lost(self, line: Line, clock: str) -> Violation | None:
        grant = self._deed(line)
        self._term(grant).reason = str(line.entry.data.get("reason"))
        return self._end("belief", line, clock, grant, self._until(line, grant)) or self._late(
            grant
        )

    def _released(self, line: Line, clock: str) -> Violation | None:
        grant = self._deed(line)
        self._term(grant).released = line
        command = self._lane("effect").open.get(grant)
        if command is not None:
            message = f"{_who(line)} gave the leadership back while its command was alive"
            return self._violation("released_early", message, "effect", command.first, line)
        return self._end("belief", line, clock, grant, self._until(line, grant))

    def _finished(self, line: Line, clock: str) -> Violation | None:
        """The process is over, and with it what it believed, whatever it said of that."""
        lane = self._lane("belief")
        for grant, span in list(lane.open.items()):
            if grant[0] == line.entry.data.get("candidate") and not span.rival:
                lane.end(line, grant, span.proven_until)
        return None

    def _until(self, line: Line, grant: Grant) -> int:
        """Until when it took itself for the leader; what is not told is not assumed."""
        span = self._lane("belief").open.get(grant)
        proven = line.entry.boottime_ns if span is None else span.proven_until
        until: int = line.entry.data.get("led_until_ns", proven)
        return until

    def _late(self, grant: Grant) -> Violation | None:
        term = self._terms.get(grant)
        if term is None or term.late is None or term.reason != "expired":
            return None
        late = -term.late.entry.data["margin_ms"]
        return self._violation(
            "late_stop",
            f"the command of {grant[0]!r} was alive {late} ms after its lease had ended",
            "effect",
            term.late,
        )

    def _term(self, grant: Grant) -> _Ended:
        term = self._terms.setdefault(grant, _Ended())
        if len(self._terms) > _TERMS:
            self._forget_term(self._terms.popitem(last=False)[1])
        return term

    def _forget_term(self, term: _Ended | None) -> None:
        if term is not None and term.gone is not None:
            self._no_beginning("effect", term.gone)

    def _deed(self, line: Line) -> Grant:
        """A line of a leader: whose it is, and that somebody should have watched."""
        self._sightings().acted(line)
        return (line.entry.data.get("candidate") or line.entry.holder or "", line.entry.token)

    # Observers -----------------------------------------------------------------------------------

    def _sighting(self, line: Line) -> Violation | None:
        entry = line.entry
        if "candidate" in entry.data:  # a campaign that waits says who leads
            return self._named(line) if entry.holder is not None else None
        sightings = self._sightings()
        violation = sightings.take(line)
        if violation is None and entry.holder is not None:
            violation = self._named(line)
            self._led(line, (entry.holder, entry.token))
        return violation

    def _led(self, line: Line, grant: Grant) -> None:
        """Somebody led in the store: a campaign should tell of it."""
        if grant in self._believed or grant in self._pending or self._watched("belief"):
            return
        if len(self._pending) < _PENDING:
            self._pending[grant] = line
        else:
            self._doubt("no_campaign", f"{line.place}: no campaign tells of {_who(line)}")

    def _watched(self, view: str) -> bool:
        return self._seen is not None and self._seen.watches(view)

    def _sightings(self) -> Sightings:
        if self._seen is None:
            self._seen = Sightings(self._doubts)
        return self._seen

    def _gap(self, line: Line, clock: str) -> Violation | None:
        self._doubt("gap", f"{line.place}: its writer says that something is missing there")
        return None

    # Other people's histories --------------------------------------------------------------------

    def _said_begin(self, line: Line, clock: str) -> Violation | None:
        view, grant = self._said(line)
        if view == "store":
            self._led(line, grant)
        elif view == "belief" and not self._watched("effect") and grant not in self._believed:
            self._no_effect[grant] = line
            if len(self._no_effect) > _PENDING:
                self._no_effect.popitem(last=False)
        return self._begin(view, line, clock, grant)

    def _said_still(self, line: Line, clock: str) -> Violation | None:
        view, grant = self._said(line)
        return self._prove(view, line, clock, grant)

    def _said_end(self, line: Line, clock: str) -> Violation | None:
        view, grant = self._said(line)
        return self._end(view, line, clock, grant, line.entry.boottime_ns)

    def _said(self, line: Line) -> tuple[View, Grant]:
        entry = line.entry
        view: View = entry.data["view"]
        if view != "store":
            self._sightings().acted(line)
        return view, (entry.holder or "", entry.token)

    def _write(self, line: Line, clock: str) -> Violation | None:
        if line.entry.data["outcome"] != "accepted" or line.entry.token is None:
            return None
        return self._resource(line, clock).accepted(line)

    def _read(self, line: Line, clock: str) -> Violation | None:
        return self._resource(line, clock).read(line)

    def _checkpoint_set(self, line: Line, clock: str) -> Violation | None:
        resource = self._resource(line, clock)
        match line.entry.data["outcome"]:
            case "accepted" if line.entry.token is not None:
                self._deed(line)
                return resource.accepted(line)
            case "accepted" | "unknown":
                resource.tried(line)
        return None

    def _checkpoint_got(self, line: Line, clock: str) -> Violation | None:
        return self._resource(line, clock).found(line)

    def _resource(self, line: Line, clock: str) -> Resource:
        name = line.entry.data.get("resource", "the checkpoint")
        self._clock(f"resource {name}", clock)
        return self._resources.setdefault(name, Resource(name))

    # Leaderships ---------------------------------------------------------------------------------

    def _begin(
        self, view: View, line: Line, clock: str, grant: Grant, *, anew: bool = False
    ) -> Violation | None:
        self._clock(view, clock)
        violation = self._grows(view, line, grant, anew) or self._named(line)
        if view == "belief":
            self._pending.pop(grant, None)
            self._believed[grant] = None
            if len(self._believed) > _REMEMBERED:
                self._believed.popitem(last=False)
        elif view == "effect":
            self._no_effect.pop(grant, None)
        lane = self._lane(view)
        if grant in lane.open:
            return violation or self._met(view, lane.prove(line, grant))
        return violation or self._met(view, lane.begin(line, grant))

    def _prove(self, view: View, line: Line, clock: str, grant: Grant) -> Violation | None:
        lane = self._lane(view)
        if grant in lane.open:
            return self._met(view, lane.prove(line, grant))
        if lane.ended(grant):
            return None
        self._no_beginning(view, line)
        return self._begin(view, line, clock, grant)

    def _end(self, view: View, line: Line, clock: str, grant: Grant, at: int) -> Violation | None:
        lane = self._lane(view)
        if grant not in lane.open:
            if not lane.ended(grant):
                self._no_beginning(view, line)
                lane.closed.append(grant)
            return None
        return self._met(view, lane.end(line, grant, at))

    def _no_beginning(self, view: View, line: Line) -> None:
        self._doubt(
            "no_beginning",
            f"{line.place}: no line says since when {_who(line)} led ({VIEWS[view]})",
        )

    def _grows(self, view: View, line: Line, grant: Grant, anew: bool) -> Violation | None:
        top = self._tops.get(view)
        if grant[1] is None:
            return None
        if top is None or top.entry.token is None or grant[1] > top.entry.token:
            self._tops[view] = line
            return None
        if grant[1] < top.entry.token:
            message = f"{_who(line)} leads after {_who(top)}: tokens must grow"
            return self._violation("token_falls", message, view, top, line)
        if anew:
            message = f"{_who(line)} was elected twice under one token"
            return self._violation("token_repeats", message, view, top, line)
        return None

    def _named(self, line: Line) -> Violation | None:
        """A token belongs to one holder, whoever says so."""
        token, holder = line.entry.token, line.entry.holder
        if token is None:
            return None
        before = self._names.get(token)
        if before is None:
            self._names[token] = line
            if len(self._names) > _TOKENS:
                self._names.popitem(last=False)
        elif before.entry.holder != holder:
            message = f"token {token} belongs to {before.entry.holder!r} and to {holder!r}"
            return self._violation("token_repeats", message, None, before, line)
        return None

    def _met(self, view: View, overlap: Overlap | None) -> Violation | None:
        if overlap is None:
            return None
        self.overlap = view, overlap
        return self.two_leaders()

    def settled(self) -> bool:
        """Whether it is known until when the two led who led at once."""
        return self.overlap is not None and all(
            span.end is not None for span in (self.overlap[1].earlier, self.overlap[1].later)
        )

    def two_leaders(self) -> Violation:
        """The two who led at once, as far as it is known by now."""
        assert self.overlap is not None
        view, overlap = self.overlap
        spans = (overlap.earlier, overlap.later)
        lines = {id(line): line for span in spans for line in (span.first, span.last)}
        start = overlap.later.since
        names = " and ".join(_name(span.grant) for span in spans)
        what = {"store": "led", "belief": "took themselves for the leader", "effect": "acted"}
        return Violation(
            "two_leaders",
            f"two leaders at once: {names} {what[view]} at the same time",
            self.backend,
            self.name,
            view,
            overlap.ns,
            tuple(sorted(lines.values(), key=lambda line: line.entry.boottime_ns)),
            (
                *(Stretch(_name(span.grant), span.since, span.end) for span in spans),
                Stretch("overlap", start, start + overlap.ns),
            ),
        )

    def _violation(self, kind: Kind, message: str, view: View | None, *lines: Line) -> Violation:
        return Violation(kind, message, self.backend, self.name, view, lines=lines)

    def _lane(self, view: View) -> Lane:
        lane = self._lanes.get(view)
        if lane is None:
            lane = self._lanes[view] = Lane()
        return lane

    def _clock(self, what: str, clock: str) -> None:
        first = self._clocks.setdefault(what, clock)
        if first != clock:
            words = next((text for view, text in VIEWS.items() if view == what), what)
            self._doubt(
                "clocks",
                f"{words}: told on several machines or boots, whose clocks cannot be compared",
            )

    def _doubt(self, kind: DoubtKind, message: str) -> None:
        self._doubts.add(kind, message, self.backend, self.name)


def _name(grant: Grant) -> str:
    who = repr(grant[0]) if grant[0] else "an anonymous holder"
    return who if grant[1] is None else f"{who} (token {grant[1]})"


def _who(line: Line) -> str:
    return _name((line.entry.data.get("candidate") or line.entry.holder or "", line.entry.token))


_SIGHTINGS = frozenset(
    ("recording", "recorded", "holder", "vacant", "waiting", "unreachable", "recovered")
)
_HANDLERS: dict[str, Callable[[Election, Line, str], Violation | None]] = {
    "campaigning": Election._nothing,
    "elected": Election._elected,
    "renewed": Election._nothing,
    "renewal_failed": Election._still_leads,
    "lost": Election._lost,
    "released": Election._released,
    "command_started": Election._started,
    "command_exited": Election._nothing,
    "command_gone": Election._gone,
    "checkpoint_set": Election._checkpoint_set,
    "checkpoint_got": Election._checkpoint_got,
    "again": Election._nothing,
    "warning": Election._nothing,
    "finished": Election._finished,
    "begin": Election._said_begin,
    "still": Election._said_still,
    "end": Election._said_end,
    "write": Election._write,
    "read": Election._read,
    "gap": Election._gap,
}
