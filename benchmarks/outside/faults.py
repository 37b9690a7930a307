"""What is done to the first campaign: the library's faults, by the names of this measurement."""

from __future__ import annotations

from pathlib import Path

from electctl.faults import host_faults, library, members, processes
from electctl.faults.fault import Fault
from electctl.lab.cluster import make_cluster

FAULTS: dict[str, Fault] = {
    "kill-tree": library.find("crash:tree"),
    "kill-electctl": library.find("crash:electctl"),
    "segv-electctl": Fault("crash:segv", "electctl crashes", processes.segv_electctl),
    "oom-electctl": host_faults.FAULTS["oom"],
    "cgroup-kill": host_faults.FAULTS["cgroup-kill"],
    "stop-electctl": library.find("pause:electctl"),
    "store-gone": Fault("store-gone", "the store is stopped", members.all_gone),
    "swallowed": library.find("partition:candidate"),
    "crowd": host_faults.FAULTS["crowd"],
    "cpu-quota": host_faults.FAULTS["cpu-quota"],
    "cpu-quota-busy": host_faults.FAULTS["cpu-quota-busy"],
    "pid-namespace": library.find("partition:candidate"),
    "pid-ns-own-proc": library.find("partition:candidate"),
    "sigterm": Fault("sigterm", "electctl is asked to end", processes.terminate_electctl),
    "cut-off": library.find("partition:member"),
    "cut-off-leader": library.find("partition:store"),
}
#: The first campaign runs under these.
UNDER = {
    "pid-namespace": ("unshare", "--pid", "--fork"),
    "pid-ns-own-proc": ("unshare", "--pid", "--fork", "--mount-proc"),
}
#: These need a right on the host that not everybody has: cgroups, namespaces, many processes.
PRIVILEGED = (
    *("oom-electctl", "cgroup-kill", "crowd", "cpu-quota", "cpu-quota-busy"),
    *UNDER,
)
#: Nothing of the first is left that could stop anything: its lease runs out.
ALL_GONE = ("kill-tree", "cgroup-kill")
#: The guardian gives back what the first held, so its lease ends then, and not by itself.
GIVEN_BACK = ("kill-electctl", "segv-electctl", "oom-electctl")
#: Done to the store, or to the host: no other round can be played at the same time.
ALONE = ("store-gone", "cut-off", "cut-off-leader", "crowd")
#: After these the first campaign ends by itself.
ENDS = (
    *("stop-electctl", "swallowed", "cpu-quota", "cpu-quota-busy"),
    *("pid-namespace", "pid-ns-own-proc", *ALONE),
    "sigterm",
)
#: What a tool that does not stop its command cannot come through.
NEED_STOPPING = ("store-gone", "sigterm")


def faults_of(scheme: str, nodes: int, tool: str = "electctl") -> list[str]:
    """The faults that can be played."""
    cluster = make_cluster(scheme, Path("/nonexistent"), nodes, breakable=True)
    impossible = {name for name, fault in FAULTS.items() if fault.needs(cluster) is not None}
    if tool != "electctl":
        impossible |= set(NEED_STOPPING)
    if scheme == "raft":
        impossible.add("cut-off")  # its followers serve nobody
    return [fault for fault in FAULTS if fault not in impossible]
