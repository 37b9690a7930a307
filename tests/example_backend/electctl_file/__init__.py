"""Leader election in a directory: what ``file:///path`` promises. Imports nothing heavy.

What it does not guarantee: anything between machines. See the weaknesses below.
"""

from __future__ import annotations

from electctl.contract.backend import Plugin
from electctl.contract.traits import Claim, Traits, Weakness

#: Seconds between two looks of those who wait or watch.
POLL = 0.1

TRAITS = Traits(
    scheme="file",
    title="Directory",
    mechanism="a record with an expiry, replaced by rename(2) under flock(2)",
    family="row-ttl",
    exclusion="lease",
    scope="the processes of one machine",
    judge="observer",
    expiry_decided_by="each candidate, on the machine's one clock",
    clocks="one clock for all (CLOCK_BOOTTIME); a reboot ends every grant",
    token="counter",
    token_sound=False,
    order="none",
    wakeup="poll",
    poll_interval=POLL,
    herd="all",
    checkpoint=True,
    gives_back=True,
    reach="host",
    failover="holder_ttl + poll",
    waiting_requests="1 / poll",
    assumptions=(
        Claim("The directory is on a local file system, not on NFS.", "flock(2)"),
        Claim("The file system keeps what fsync(2) said it has.", "fsync(2)"),
    ),
    weaknesses=(
        Weakness(
            "A process that is stopped while it has the lock stops everybody.",
            breaks=("liveness",),
            fault="pause",
            source="flock(2)",
        ),
        Weakness(
            "Who removes the directory, or puts back an old copy, gives the lease away and starts "
            "the tokens again.",
            breaks=("exclusion", "token", "checkpoint"),
            fault="restart",
        ),
    ),
    sources=("flock(2)", "rename(2)", "fsync(2)"),
)

PLUGIN = Plugin(
    schemes=("file",),
    traits=TRAITS,
    backend="electctl_file.backend:FileBackend",
    lab="electctl_file.lab:FileCluster",
    example="file:///var/lib/myapp/leader",
)
