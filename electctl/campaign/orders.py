"""What goes into the machine of :mod:`electctl.campaign.term`, and what comes out of it.

Plain data, without behaviour. All times are seconds on :func:`electctl.clock.now`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from electctl import lease
from electctl.campaign.channel import GuardianEvent
from electctl.errors import ElectctlError, NotElected

Outcome = Literal[
    "completed", "not_elected", "lost", "interrupted", "unreachable", "refused", "cannot_run"
]
Job = Literal["on_elected", "command"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one term is to do once elected. Times in seconds."""

    command: bool = True
    on_elected: bool = False
    on_lost: bool = False
    once: bool = False
    min_hold: float = 0.0
    conflict_exit: int = NotElected.exit_code


# Events ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Elected:
    """The attempt succeeded. ``grace`` is what the timing of this grant leaves for stopping."""

    token: int | None
    grace: float


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """The attempt ended without a grant, and has withdrawn."""

    error: ElectctlError


@dataclass(frozen=True, slots=True)
class Signalled:
    """Somebody told us to stop."""

    signum: int


@dataclass(frozen=True, slots=True)
class MarkRead:
    """The done mark was looked up: ``done`` describes it, "" where there is none."""

    done: str = ""
    error: ElectctlError | None = None


@dataclass(frozen=True, slots=True)
class MarkWritten:
    """The done mark was written, or ``error`` says why not."""

    error: ElectctlError | None = None


@dataclass(frozen=True, slots=True)
class GivenBack:
    """The release was delivered, or ``error`` says why not."""

    error: ElectctlError | None = None


@dataclass(frozen=True, slots=True)
class HookEnded:
    """The on-lost hook is over."""


Event = (
    Elected
    | AttemptFailed
    | Signalled
    | MarkRead
    | MarkWritten
    | GivenBack
    | HookEnded
    | GuardianEvent
    | lease.Instruction
    | lease.Tick
)


# Instructions ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cancel:
    """Make the attempt withdraw."""


@dataclass(frozen=True, slots=True)
class Look:
    """Find out once who leads, and say so."""


@dataclass(frozen=True, slots=True)
class ReadMark:
    """Look up the done mark; answer with MarkRead."""


@dataclass(frozen=True, slots=True)
class WriteMark:
    """Write the done mark; answer with MarkWritten."""


@dataclass(frozen=True, slots=True)
class StartJob:
    """Have the guardian start the command, or the on-elected hook."""

    job: Job


@dataclass(frozen=True, slots=True)
class Feed:
    """Send the guardian new deadlines."""

    terminate_at: float
    kill_at: float


@dataclass(frozen=True, slots=True)
class Forward:
    """Send a signal to the whole tree."""

    signum: int


@dataclass(frozen=True, slots=True)
class StopTree:
    """SIGTERM to the whole tree now, SIGKILL after ``grace`` seconds."""

    grace: float


@dataclass(frozen=True, slots=True)
class KillTree:
    """SIGKILL to the whole tree now."""


@dataclass(frozen=True, slots=True)
class Release:
    """Give the leadership back; answer with GivenBack."""


@dataclass(frozen=True, slots=True)
class RunOnLost:
    """Run the on-lost hook; answer with HookEnded."""

    reason: str


@dataclass(frozen=True, slots=True)
class StopOnLost:
    """Kill the on-lost hook."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Emit an event. ``at`` is when it happened, where that is not now."""

    event: str
    details: dict[str, object] = field(default_factory=dict)
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """The term is over."""

    outcome: Outcome
    exit_code: int
    message: str = ""
    hint: str | None = None


Instruction = (
    Cancel
    | Look
    | ReadMark
    | WriteMark
    | StartJob
    | Feed
    | Forward
    | StopTree
    | KillTree
    | Release
    | RunOnLost
    | StopOnLost
    | Tell
    | Finish
)
