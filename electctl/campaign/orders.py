"""What goes into the machine of :mod:`electctl.campaign.term`, and what comes out of it.

Plain data, without behaviour. All times are seconds on :func:`electctl.base.clock.now`.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

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


class Plan(Struct, frozen=True):
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


class Elected(Struct, frozen=True):
    """The attempt succeeded. ``grace`` is what the timing of this grant leaves for stopping."""

    token: int | None
    grace: float


class AttemptFailed(Struct, frozen=True):
    """The attempt ended without a grant, and has withdrawn.

    ``transient``: what this host lacked for it may be there again soon.
    """

    error: ElectctlError
    transient: bool = False


class Signalled(Struct, frozen=True):
    """Somebody told us to stop."""

    signum: int
    #: The terminal has sent it to the command as well.
    reached_command: bool = False


class Relayed(Struct, frozen=True):
    """A signal came that is the command's affair alone."""

    signum: int


class Crashed(Struct, frozen=True):
    """A thread of ours ended by an error that nobody foresaw."""

    error: InternalError


class MarkRead(Struct, frozen=True):
    """The done mark was looked up: ``done`` describes it, "" where there is none."""

    done: str = ""
    error: ElectctlError | None = None


class MarkWritten(Struct, frozen=True):
    """The done mark was written, or ``error`` says why not."""

    error: ElectctlError | None = None


class GivenBack(Struct, frozen=True):
    """The release was delivered, or ``error`` says why not."""

    error: ElectctlError | None = None


class HookEnded(Struct, frozen=True):
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


class Enter(Struct, frozen=True):
    """Begin the attempt; answer with Elected or AttemptFailed."""


class Cancel(Struct, frozen=True):
    """Make the attempt withdraw."""


class CheckAttempt(Struct, frozen=True):
    """The attempt is late: if it should have ended by now, answer with AttemptFailed for it."""


class Hold(Struct, frozen=True):
    """Have the guardian give the leadership back should we die."""


class Drop(Struct, frozen=True):
    """There is nothing to give back any more."""


class Look(Struct, frozen=True):
    """Find out once who leads, and say so."""


class ReadMark(Struct, frozen=True):
    """Look up the done mark; answer with MarkRead."""


class WriteMark(Struct, frozen=True):
    """Write the done mark; answer with MarkWritten."""


class StartJob(Struct, frozen=True):
    """Have the guardian start the command, or the on-elected hook."""

    job: Job


class Feed(Struct, frozen=True):
    """Send the guardian new deadlines."""

    terminate_at: float
    kill_at: float


class Forward(Struct, frozen=True):
    """Pass a signal on, without a limit to what follows."""

    signum: int
    scope: Scope


class StopTree(Struct, frozen=True):
    """``signum`` (0: none) to ``scope`` now, SIGKILL to all that is left ``timeout`` s later."""

    timeout: float
    scope: Scope
    signum: int


class KillTree(Struct, frozen=True):
    """SIGKILL to the whole tree now."""


class Release(Struct, frozen=True):
    """Give the leadership back; answer with GivenBack."""


class RunOnLost(Struct, frozen=True):
    """Run the on-lost hook; answer with HookEnded."""

    reason: str


class StopOnLost(Struct, frozen=True):
    """Kill the on-lost hook."""


class Tell(Struct, frozen=True):
    """Emit an event. ``at`` is when it happened, where that is not now."""

    event: str
    details: dict[str, object] = field(default_factory=dict)
    at: float | None = None


class Finish(Struct, frozen=True):
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
