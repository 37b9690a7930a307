"""Leader election beside consensus, as a textbook has it: what the backends' promises stand on."""

from __future__ import annotations

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
