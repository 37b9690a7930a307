"""What goes into the machine of :mod:`electctl.campaign.term`, and what comes out of it.

Plain data, without behaviour. All times are seconds on :func:`electctl.base.clock.now`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from electctl.campaign.channel import GuardianEvent, Scope
from electctl.core import lease
from electctl.errors import ElectctlError, InternalError, NotElected

Outcome = Literal[
    "completed",
    "not_elected",
    "lost",
    "interrupted",
    "unreachable",
    "refused",
    "cannot_run",
    "internal_error",
]
Job = Literal["on_elected", "command"]
#: Whether ``--keep`` campaigns again after this end.
Again = Literal["yes", "once_led", "no"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one term is to do once elected. Times in seconds."""

    command: bool = True
    on_elected: bool = False
    on_lost: bool = False
    once: bool = False
    min_hold: float = 0.0
    conflict_exit: int = NotElected.exit_code
    #: How long to wait to be elected; None for ever.
    wait: float | None = None
    #: How long to wait for the store's first answer.
    contact: float = 10.0
    #: Who gets the first signal when the command is told to stop while we lead.
    stop: Scope = "all"
    #: How long it has then; None for the grace of a loss.
    stop_timeout: float | None = None
    #: How long it may run; None for ever.
    max_run: float | None = None


# Events ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Elected:
    """The attempt succeeded. ``grace`` is what the timing of this grant leaves for stopping."""

    token: int | None
    grace: float


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """The attempt ended without a grant, and has withdrawn.

    ``transient``: what this host lacked for it may be there again soon.
    """

    error: ElectctlError
    transient: bool = False


@dataclass(frozen=True, slots=True)
class Signalled:
    """Somebody told us to stop."""

    signum: int
    #: The terminal has sent it to the command as well.
    reached_command: bool = False


@dataclass(frozen=True, slots=True)
class Relayed:
    """A signal came that is the command's affair alone."""

    signum: int


@dataclass(frozen=True, slots=True)
class Crashed:
    """A thread of ours ended by an error that nobody foresaw."""

    error: InternalError


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
    | Relayed
    | Crashed
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
class Enter:
    """Begin the attempt; answer with Elected or AttemptFailed."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Make the attempt withdraw."""


@dataclass(frozen=True, slots=True)
class CheckAttempt:
    """The attempt is late: if it should have ended by now, answer with AttemptFailed for it."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Have the guardian give the leadership back should we die."""


@dataclass(frozen=True, slots=True)
class Drop:
    """There is nothing to give back any more."""


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
    """Pass a signal on, without a limit to what follows."""

    signum: int
    scope: Scope


@dataclass(frozen=True, slots=True)
class StopTree:
    """``signum`` (0: none) to ``scope`` now, SIGKILL to all that is left ``timeout`` s later."""

    timeout: float
    scope: Scope
    signum: int


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
    again: Again = "no"


#: Those that the guardian carries out.
ForGuardian = Hold | Drop | StartJob | Feed | Forward | StopTree | KillTree

Instruction = (
    Enter
    | Cancel
    | CheckAttempt
    | Hold
    | Drop
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
