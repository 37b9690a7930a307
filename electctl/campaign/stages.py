"""The stages of a term as tables: what each begins with, how an end cuts it short, what it hears.

What this does not guarantee: an order of events; :mod:`electctl.campaign.term` reads these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from electctl.campaign import channel, orders
from electctl.core import lease

Stage = Literal[
    "new",
    "waiting",
    "checking",
    "preparing",
    "running",
    "leading",
    "marking",
    "holding",
    "releasing",
    "afterwards",
    "finished",
]


@dataclass(frozen=True, slots=True)
class Row:
    """What the machine knows of a stage."""

    #: What it begins with.
    begin: orders.Instruction | None = None
    #: The job that it starts.
    job: orders.Job | None = None
    #: When an end is due: ``withdraw`` from the queue; ``release`` at once; ``stop`` the job first;
    #: ``wait`` for the stage's own end, which is near.
    ends: Literal["withdraw", "release", "stop", "wait"] = "wait"


STAGES: dict[Stage, Row] = {
    "new": Row(),
    "waiting": Row(orders.Enter(), ends="withdraw"),
    "checking": Row(orders.ReadMark(), ends="release"),
    "preparing": Row(job="on_elected", ends="stop"),
    "running": Row(job="command", ends="stop"),
    "leading": Row(ends="release"),
    "marking": Row(orders.WriteMark()),
    "holding": Row(ends="release"),
    "releasing": Row(orders.Release()),
    "afterwards": Row(),
    "finished": Row(),
}
#: Where the leadership is held and not yet being given back.
_LEADS: tuple[Stage, ...] = (
    "checking",
    "preparing",
    "running",
    "leading",
    "marking",
    "holding",
)
_JOBS: tuple[Stage, ...] = ("preparing", "running")
_LIVE: tuple[Stage, ...] = ("waiting", *_LEADS)
#: In which stages an event means something; in the others it comes late.
HEARD: dict[type[orders.Event], tuple[Stage, ...]] = {
    orders.Elected: ("waiting",),
    orders.AttemptFailed: ("waiting",),
    orders.Signalled: (*_LIVE, "releasing", "afterwards"),
    orders.Relayed: _JOBS,
    orders.Crashed: ("new", *_LIVE, "releasing", "afterwards"),
    orders.MarkRead: ("checking",),
    orders.MarkWritten: ("marking",),
    orders.GivenBack: ("releasing",),
    orders.HookEnded: ("afterwards",),
    channel.Started: _JOBS,
    channel.CannotStart: _JOBS,
    channel.Exited: _JOBS,
    channel.TreeGone: _JOBS,
    channel.Stuck: _JOBS,
    channel.GuardianDied: ("new", *_LIVE),
    lease.SendRenewal: (),
    lease.Extended: _LIVE,
    lease.RenewalFailed: _LEADS,
    lease.StopRequested: _LIVE,
    lease.StepDown: _LIVE,
    lease.Ended: _LIVE,
    lease.Tick: (),
}
