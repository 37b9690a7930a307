"""Results of drills that nobody ran, in the shape of ``docs/drills.md``, to test what reads them.

What this does not guarantee: anything about any store. The verdicts are made up, and go nowhere but
into tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

FAULTS = (
    *("crash:electctl", "crash:tree", "crash:store"),
    *("pause:electctl", "pause:tree", "pause:member", "pause:store", "gc"),
    *("partition:candidate", "partition:candidate-in", "partition:candidate-out"),
    *("partition:member", "partition:store", "partition:even"),
    *("clock:forward", "clock:back", "clock:fast"),
    *("failover", "restart", "flush", "evict:force", "evict:memory", "stall", "slow"),
)
SERVERS = {
    "redis": "redis 7.0.15",
    "redis+sentinel": "redis 7.0.15",
    "etcd": "etcd 3.4.23",
    "zk": "zookeeper 3.8.0",
    "raft": None,
    "local": None,
}
NATIVE = {"etcd": "etcdctl-lock", "redis": "redis-py-lock", "zk": "kazoo-election"}
_WEAK = {"redis", "redis+sentinel"}
_FORGETS = {"failover", "restart", "flush", "evict:memory"}
_LATE = {"pause:tree"}
_ONLY_REDIS = {"clock:forward", "clock:back", "clock:fast", "failover", "evict:memory"}


def result(
    scheme: str = "redis",
    fault: str = "clock:forward",
    verdict: str = "fenced",
    *,
    candidate: str = "electctl",
    seed: int = 7,
    round: int = 1,
    **changed: Any,
) -> dict[str, Any]:
    """One round that came to ``verdict``: ``a`` leads first, then ``b``, after the fault."""
    rng = Random(f"{scheme} {fault} {candidate} {seed} {round}")
    ttl = 3.0
    hit = rng.randrange(2200, 2500)
    quick = fault == "crash:electctl"
    failover = rng.randrange(8, 60) if quick else int(1000 * ttl * rng.uniform(0.72, 1.06))
    begun = hit + failover
    two = rng.randrange(400, 1900) if verdict in ("fenced", "split-brain") else 0
    gone = begun + two if two else hit + rng.randrange(2, max(3, failover - 5))
    if quick:
        gone = hit + 3
    end = begun + rng.randrange(2500, 3500) + two
    tried = rng.randrange(4, 20) if two else 0
    taken = tried if verdict == "split-brain" else 0
    token = rng.randrange(1, 5000)
    taking = int(rng.lognormvariate(3.2, 0.5)) + 5
    later = token if verdict == "split-brain" else token + rng.randrange(1, 4)
    marks: list[dict[str, Any]] = [
        {"at": 131, "candidate": "a", "kind": "elected", "text": f"token {token}"},
        {"at": 190, "candidate": "a", "kind": "started", "text": ""},
        {"at": hit, "candidate": None, "kind": "fault", "text": fault},
        {"at": gone, "candidate": "a", "kind": "lost" if two else "exited", "text": ""},
        {"at": begun - 30, "candidate": "b", "kind": "elected", "text": f"token {later}"},
        {"at": begun, "candidate": "b", "kind": "started", "text": ""},
    ]
    acts = [
        {"candidate": "a", "token": token, "from": 190, "until": gone},
        {"candidate": "b", "token": later, "from": begun, "until": None},
    ]
    if two:
        kind = "accepted" if taken else "refused"
        text = f"fenced: token {token} after {later}"
        for at in range(begun + 40, gone, max(60, two // 6)):
            marks.append({"at": at, "candidate": "a", "kind": kind, "text": text, "count": 2})
    why = {
        "safe": "no two commands were alive at once, and nothing stale was tried",
        "fenced": f"{tried} writes under token {token} came after token {later}; all were refused",
        "split-brain": f"{tried} writes under token {token} were taken after token {later}",
        "not_injected": f"{SERVERS[scheme] or 'the built-in server'} did not see its clock change",
        "inconclusive": "candidate b never led",
    }[verdict]
    injected = {"target": f"{scheme}-1", "from": hit, "until": hit + 3000, "confirmed": "seen"}
    return {
        "version": 1,
        "scheme": scheme,
        "nodes": 1 if scheme in ("redis", "local") else 3,
        "candidate": candidate,
        "fault": fault,
        "seed": seed,
        "round": round,
        "ttl": ttl,
        "started": f"2026-01-31T02:{round:02d}:04.118Z",
        "length": end + 200,
        "command": f"electctl drill run {scheme} --fault {fault} --seed {seed} --ttl 3s",
        "versions": {
            "electctl": "0.1.0",
            "server": SERVERS[scheme],
            "client": None,
            "python": "3.11.2",
        },
        "machine": {"system": "Linux 6.1 x86_64", "cores": 2},
        "verdict": verdict,
        "why": why,
        "injected": None if verdict == "not_injected" else injected,
        "overlap": {
            "store": two if verdict == "split-brain" else 0,
            "belief": two + 30 if two else 0,
            "effect": two,
        },
        "stale": {
            "unfenced": {"tried": tried, "accepted": tried},
            "fenced": {"tried": tried, "accepted": taken},
            "checkpoint": {"tried": tried, "accepted": taken},
        },
        "failover": None if verdict in ("not_injected", "inconclusive") else failover,
        "handover": None if verdict == "inconclusive" else taking,
        "without_leader": max(0, begun - gone),
        "margin": None if two else 250,
        "breaks": ["checkpoint", "token"]
        if (scheme, fault, verdict) == ("redis", "evict:force", "safe")
        else {"split-brain": ["exclusion", "token"], "fenced": ["exclusion"]}.get(verdict, []),
        "lanes": {
            "store": [
                {
                    "candidate": "a",
                    "token": token,
                    "from": 120,
                    "until": begun - 40 + (two if verdict == "split-brain" else 0),
                },
                {"candidate": "b", "token": later, "from": begun - 40, "until": end - 500},
                {"candidate": "c", "token": later + 1, "from": end - 495, "until": None},
            ],
            "belief": [
                {"candidate": "a", "token": token, "from": 131, "until": gone + (0 if two else 4)},
                {"candidate": "b", "token": later, "from": begun - 30, "until": end - 500},
                {"candidate": "c", "token": later + 1, "from": end - 490, "until": None},
            ],
            "effect": acts,
        },
        "marks": sorted(marks, key=lambda mark: int(mark["at"])),
        **changed,
    }


def _verdict(scheme: str, fault: str, *, native: bool) -> str | None:
    if fault in _ONLY_REDIS and scheme not in _WEAK:
        return "not_injected" if fault.startswith("clock") and scheme != "local" else None
    if native and fault in ("partition:candidate", "pause:tree", "gc"):
        return "fenced"
    if fault in _FORGETS:
        return "split-brain" if scheme in _WEAK else "safe"
    if fault in _LATE or (fault == "stall" and scheme == "etcd"):
        return "fenced"
    if fault == "clock:forward":
        return "fenced"
    return "safe"


def matrix(rounds: int = 3) -> list[dict[str, Any]]:
    """Every scheme × every fault, and three native tools: cells of every kind."""
    found = []
    pairs = [(scheme, "electctl") for scheme in SERVERS] + list(NATIVE.items())
    for scheme, candidate in pairs:
        for fault in FAULTS:
            verdict = _verdict(scheme, fault, native=candidate != "electctl")
            if verdict is None or (candidate != "electctl" and fault.startswith("evict")):
                continue
            for number in range(1, rounds + 1):
                told = verdict
                if (scheme, fault, number) == ("redis", "clock:fast", 2):
                    told = "fenced"
                if (scheme, fault) == ("zk", "slow") and number == rounds:
                    told = "inconclusive"
                found.append(
                    result(scheme, fault, told, candidate=candidate, seed=number, round=number)
                )
    return found


def write(path: Path, results: Iterable[dict[str, Any]]) -> Path:
    """A file of results, as ``drill matrix`` appends them."""
    path.write_text("".join(json.dumps(each) + "\n" for each in results))
    return path
