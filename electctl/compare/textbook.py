"""Leader election beside consensus, as a textbook has it: what the backends' promises stand on."""

from __future__ import annotations

from dataclasses import dataclass

HEADS = ("", "leader election", "consensus")
ROWS = (
    ("scope", "one fact: who leads", "any value, or a log of many"),
    (
        "output",
        "the id of one node, valid until the next election",
        "a value that is committed for good; a log that grows",
    ),
    (
        "without full consensus?",
        "yes, with weaker guarantees (a TTL lock), at the risk of split-brain",
        "no, by definition",
    ),
    (
        "usual forms",
        "ZooKeeper's recipe, Kubernetes Lease, Redis locks, Redlock",
        "Raft, Paxos and Multi-Paxos, ZAB",
    ),
    ("done wrong", "split-brain: two leaders at once", "the nodes' state diverges"),
    (
        "mechanism",
        "a lease or lock that expires, or an election that consensus decides",
        "a quorum agrees before anything is final",
    ),
    ("design task", "a distributed lock service", "a replicated key-value store"),
)


@dataclass(frozen=True)
class Shown:
    """A drill to look at for a row, and what to look for. What came of it is in its result."""

    scheme: str
    fault: str
    what: str


#: Row → the drills that show it, on a lock with a time limit and on consensus.
SHOWN: dict[str, tuple[Shown, ...]] = {
    "scope": (Shown("etcd", "crash:tree", "the one fact passes on: who leads, under which token"),),
    "output": (
        Shown("redis", "restart", "what was granted is not there any more"),
        Shown("etcd", "crash:store", "what was granted is committed, and outlives the leader"),
    ),
    "without full consensus?": (
        Shown("redis+sentinel", "failover", "a lock on a primary and its replicas"),
        Shown("raft", "partition:even", "no majority, no leader"),
    ),
    "usual forms": (
        Shown("zk", "partition:candidate", "ZooKeeper's recipe"),
        Shown("redis", "partition:candidate", "a Redis lock"),
    ),
    "done wrong": (Shown("redis", "flush", "the store forgets who leads"),),
    "mechanism": (
        Shown("redis", "clock:forward", "a lease ends by one server's clock"),
        Shown("etcd", "partition:member", "a quorum goes on without one of its members"),
    ),
    "design task": (
        Shown("etcd", "pause:tree", "a lock service cannot stop who wakes late; the token can"),
    ),
}
