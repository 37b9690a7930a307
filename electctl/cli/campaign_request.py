"""What one ``electctl campaign`` is to do: flag, then config file, then default; does it fit?

What this does not guarantee: that the store agrees. It may grant a shorter TTL than was asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from electctl.campaign.orders import Plan
from electctl.campaign.task import Job
from electctl.errors import NotElected, Unsupported, UsageError

if TYPE_CHECKING:
    from electctl.campaign.channel import Scope
    from electctl.cli.config import ElectionSettings
    from electctl.contract.traits import Traits
    from electctl.contract.url import BackendURL


@dataclass(frozen=True, slots=True)
class Request:
    """The options after flag, config file and default have been weighed."""

    job: Job
    keep: bool
    max_terms: int | None


def weigh(
    url: BackendURL,
    election: str,
    command: tuple[str, ...],
    flags: ElectionSettings,
    file: ElectionSettings,
    once: str | None,
) -> Request:
    """Raises UsageError, UnsafeTiming, Unsupported where it does not fit together."""
    from electctl.campaign.host import margin_needed
    from electctl.contract.naming import check_name
    from electctl.core.elector import CONTACT_LIMIT, default_id
    from electctl.core.registry import canonical, plugin

    said = flags.over(file)
    code = said.conflict_exit_code
    candidate = default_id() if said.id is None else said.id
    job = Job(
        election=canonical(url, election),
        candidate=check_name(candidate, "candidate id"),
        scheme=url.scheme,
        url=url.without_password(),
        argv=command,
        ttl=said.ttl,
        grace=said.grace,
        margin=margin_needed() if said.margin is None else said.margin,
        on_elected=said.on_elected,
        on_lost=said.on_lost,
        once=once,
        socket=None if said.socket is None else Path(said.socket),
        plan=Plan(
            command=bool(command),
            on_elected=bool(said.on_elected),
            on_lost=bool(said.on_lost),
            once=once is not None,
            min_hold=said.min_hold or 0.0,
            conflict_exit=NotElected.exit_code if code is None else code,
            wait=said.wait,
            # One try is no try without the time for it.
            contact=min(said.wait or CONTACT_LIMIT, CONTACT_LIMIT),
            stop=_scope(said.stop),
            stop_timeout=said.stop_timeout,
            max_run=said.max_run,
        ),
    )
    # A config file that says "keep" means the service, not a run-once call of it.
    keep = bool(flags.keep) or (bool(said.keep) and once is None and said.wait != 0)
    request = Request(job, keep, said.max_terms)
    _check_together(request, flag_max_terms=flags.max_terms)
    _check_scheme(job, plugin(url.scheme).traits_of(url.scheme))
    return request


def _scope(text: str | None) -> Scope:
    if text not in (None, "all", "main"):
        raise UsageError(f"--stop {text}: main or all", hint="main: the command's own process")
    return cast("Scope", text or "all")


def _check_together(request: Request, *, flag_max_terms: int | None) -> None:
    job = request.job
    plan = job.plan
    if job.argv and not job.argv[0]:
        raise UsageError("the command is empty", hint="electctl campaign ELECTION -- COMMAND")
    if not 0 <= plan.conflict_exit <= 255:
        raise UsageError(
            f"--conflict-exit-code {plan.conflict_exit}: an exit code is between 0 and 255",
            hint="-E 0 makes it no error to find a leader",
        )
    if request.keep and plan.wait == 0:
        raise UsageError("--keep and --no-wait contradict each other", hint="--keep --wait 1s")
    if request.keep and plan.once:
        raise UsageError(
            "--keep and --once contradict each other", hint="--once runs one command, once"
        )
    if flag_max_terms is not None and not request.keep:
        raise UsageError("--max-terms needs --keep", hint="without --keep there is one term")
    if request.max_terms is not None and request.max_terms < 1:
        raise UsageError("--max-terms must be at least 1", hint="leave it out for no limit")
    if plan.once and not plan.command:
        raise UsageError(
            "--once needs a command", hint="electctl campaign ELECTION --once K -- CMD"
        )
    if job.once == "":
        raise UsageError("--once: the key is empty", hint='as in --once "$(date +%F)"')
    if plan.max_run == 0:
        raise UsageError("--max-run 0s lets nothing run", hint="leave it out for no limit")


def _check_scheme(job: Job, traits: Traits) -> None:
    from electctl.core.lease import Timing

    if job.plan.once and not traits.checkpoint:
        raise Unsupported(
            f"--once needs a guarded checkpoint, which {job.scheme}:// does not have",
            hint="electctl backends lists the schemes that have one",
        )
    Timing.of(traits, job.ttl, job.grace, job.margin)
