"""What electing on ``local:`` promises, and what breaks it.

What this does not guarantee: completeness. These are the ways to fail that are known to us.
"""

from __future__ import annotations

from dataclasses import replace

from electctl.contract.traits import Claim, Weakness
from electctl_raft.traits import TRAITS

_OURS = "docs/local.md"
_NO_LAB = "local: has no lab to break; the drills of raft:// run the same code"
_LEASES = "Gray and Cheriton, Leases (SOSP 1989)"
_FSYNC = "https://www.sqlite.org/pragma.html#pragma_synchronous"

LOCAL_TRAITS = replace(
    TRAITS,
    scheme="local",
    title="Embedded Raft, one voter",
    mechanism="the table of the built-in Raft in one process, started by whoever needs it",
    scope="one user of one machine, a quorum of one",
    reach="host",
    expiry_decided_by="the embedded server, on its monotonic clock, and committed",
    clocks="none but this machine's",
    failover_note="2 ttl + 2 s if the server crashes with it; never, while the machine is down",
    assumptions=(
        Claim("All candidates run as one user on one machine, with one state directory.", _OURS),
        Claim("What the disk calls written stays written, also when power is lost.", _FSYNC),
        Claim("Nobody removes the state directory, or puts back an old copy of it.", _OURS),
    ),
    weaknesses=(
        Weakness(
            "Candidates of two machines, two users or two state directories do not see each "
            "other: each side has a leader.",
            breaks=("exclusion",),
            source=_OURS,
            unshown=_NO_LAB,
        ),
        Weakness(
            "One voter survives no loss: while the machine is down or its disk full nobody is "
            "elected, and what the disk loses is lost.",
            breaks=("liveness", "checkpoint"),
            fault="crash",
            source=_OURS,
            unshown=_NO_LAB,
        ),
        Weakness(
            "A leader that is paused together with its command, or whose write is slow, can act "
            "after its lease has ended; the token tells such a write.",
            breaks=("exclusion",),
            fault="pause",
            source=_LEASES,
            unshown=_NO_LAB,
        ),
        Weakness(
            "An eviction by force gives the leadership away at once; the leader learns of it at "
            "its next renewal.",
            breaks=("exclusion",),
            fault="evict",
            source=_OURS,
            unshown=_NO_LAB,
        ),
        Weakness(
            "A state directory that was removed, or put back from a copy, begins again: grants, "
            "tokens and checkpoints go back.",
            breaks=("exclusion", "token", "checkpoint"),
            fault="restart",
            source=_OURS,
            unshown=_NO_LAB,
        ),
    ),
)
