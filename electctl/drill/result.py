"""One result: a judgement with what it was played on, as ``--json`` and files of results have it.

What this does not guarantee: that versions say all of what differs between two machines.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from electctl import __version__
from electctl.base.clock import timestamp
from electctl.drill.evidence import Evidence, Span
from electctl.drill.judge import Judgement

VERSION = 1
_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Played:
    """What a round was played on. ``ttl`` in seconds."""

    scheme: str
    nodes: int | None
    candidate: str
    fault: str
    seed: int
    round: int
    ttl: float
    command: str
    server: str
    client: str


def as_dict(played: Played, evidence: Evidence, judgement: Judgement) -> dict[str, Any]:
    """As ``drill-result.schema.json`` describes it."""
    begin = evidence.began

    def ms(at: int | None) -> int | None:
        return None if at is None else (at - begin) // _MS

    injection = evidence.injection
    return {
        "version": VERSION,
        "scheme": played.scheme,
        "nodes": played.nodes,
        "candidate": played.candidate,
        "fault": played.fault,
        "seed": played.seed,
        "round": played.round,
        "ttl": played.ttl,
        "started": timestamp(begin / 1e9),
        "length": ms(evidence.ended),
        "command": played.command,
        "versions": {
            "electctl": __version__,
            "server": played.server,
            "client": played.client,
            "python": platform.python_version(),
        },
        "machine": machine(),
        "verdict": judgement.verdict,
        "why": judgement.why,
        "injected": None
        if injection is None
        else {
            "target": injection.target,
            "from": ms(injection.since),
            "until": ms(injection.until),
            "confirmed": injection.confirmed,
        },
        "overlap": dict(judgement.overlap),
        "stale": {
            name: {"tried": count.tried, "accepted": count.accepted}
            for name, count in judgement.stale.items()
        },
        "failover": judgement.failover,
        "handover": None if evidence.handover is None else evidence.handover // _MS,
        "without_leader": judgement.without_leader,
        "margin": judgement.margin,
        "breaks": list(judgement.breaks),
        "lanes": {view: _lane(spans, begin) for view, spans in judgement.lanes.items()},
        "marks": [
            {
                "at": ms(mark.at),
                "candidate": mark.candidate or None,
                "kind": mark.kind,
                "text": mark.text,
                "count": mark.count,
            }
            for mark in judgement.marks
        ],
    }


def _lane(spans: Sequence[Span], begin: int) -> list[Mapping[str, object]]:
    return [
        {
            "candidate": span.term.candidate,
            "token": span.term.token,
            "from": (span.since - begin) // _MS,
            "until": None if span.until is None else (span.until - begin) // _MS,
        }
        for span in spans
    ]


def machine() -> dict[str, object]:
    """The machine, for people: figures of two are not compared."""
    system = f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}"
    return {"system": system, "cores": os.cpu_count()}


def client_version(distribution: str) -> str:
    """A client library and its version; "electctl" where a scheme needs none."""
    name = distribution.partition("[")[0].partition(">")[0].partition("=")[0].strip()
    if not name:
        return f"electctl {__version__}"
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return name
