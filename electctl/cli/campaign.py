"""``electctl campaign``: run a command only while leading.

What this does not guarantee: see the help text, and :mod:`electctl.campaign`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from electctl.cli.app import Command, new_app
from electctl.cli.frame import Frame
from electctl.cli.options import Duration
from electctl.errors import UsageError

if TYPE_CHECKING:
    from electctl.campaign.guardian import Guardian
    from electctl.campaign.orders import Finish
    from electctl.campaign.result import ResultFile
    from electctl.campaign.supervisor import Inbox, Job
    from electctl.campaign.term import Term
    from electctl.cli.campaign_output import Output
    from electctl.errors import ElectctlError
    from electctl.traits import Traits
    from electctl.url import BackendURL

app = new_app()

EXAMPLES = """
electctl campaign nightly -- ./report.sh
electctl campaign nightly --wait 30s --ttl 10s -- ./report.sh --all
electctl campaign nightly --keep --result result.json -- ./serve.sh
electctl campaign nightly --no-wait -E 0 --min-hold 30s -- ./cron-job.sh
electctl campaign nightly --once "$(date +%F)" -- ./cron-job.sh
electctl campaign nightly --on-lost 'logger "nightly was lost: $ELECTCTL_REASON"' -- ./serve.sh
"""


class _Campaign(Command):
    stray_hint = "-- goes before the command: electctl campaign ELECTION -- COMMAND ARGS..."

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse a ``--`` with nothing behind it: a script's variable that happened to be empty."""
        if "--" in args and args.index("--") == len(args) - 1:
            raise UsageError(
                "there is no command after --", hint="to lead without one, leave -- out too"
            )
        return super().parse_args(ctx, args)


@dataclass(frozen=True, slots=True)
class _Request:
    """The options after flag, config file and default have been weighed."""

    job: Job
    keep: bool
    max_terms: int | None


@app.command("campaign", cls=_Campaign, epilog=EXAMPLES)
def campaign(
    ctx: typer.Context,
    election: Annotated[str, typer.Argument(metavar="ELECTION", help="What to lead.")],
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- COMMAND ARGS...]",
            help="What to run while leading; without it, lead until told to stop.",
            show_default=False,
        ),
    ] = None,
    id: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="ID", help="Our name. [default: <host>_<uuid>]", show_default=False
        ),
    ] = None,
    ttl: Annotated[
        float | None,
        Duration(
            "--ttl",
            help="How long the store keeps our leadership without a renewal. "
            "[default: the scheme's, mostly 10s]",
        ),
    ] = None,
    grace: Annotated[
        float | None,
        Duration("--grace", help="From SIGTERM to SIGKILL. [default: ttl/3, at most 5s]"),
    ] = None,
    wait: Annotated[
        float | None,
        Duration("--wait", help="Give up (exit 75) if not elected by then. [default: never]"),
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Try once; exit 75 if somebody leads.")
    ] = False,
    conflict_exit_code: Annotated[
        int | None,
        typer.Option(
            "-E",
            "--conflict-exit-code",
            metavar="N",
            help="Exit with N instead of 75 when not elected.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Campaign again after each term, with back-off.")
    ] = False,
    max_terms: Annotated[
        int | None,
        typer.Option(
            "--max-terms", metavar="N", help="With --keep: lead N times.", show_default=False
        ),
    ] = None,
    min_hold: Annotated[
        float | None,
        Duration("--min-hold", help="Lead at least this long, also when the command has ended."),
    ] = None,
    once: Annotated[
        str | None,
        typer.Option(
            "--once",
            metavar="KEY",
            help="Run only if no command has succeeded under KEY yet.",
            show_default=False,
        ),
    ] = None,
    on_elected: Annotated[
        str | None,
        typer.Option(
            "--on-elected",
            metavar="CMD",
            help="A shell line to run as the leader, before COMMAND; if it fails, that is told.",
            show_default=False,
        ),
    ] = None,
    on_lost: Annotated[
        str | None,
        typer.Option(
            "--on-lost",
            metavar="CMD",
            help="A shell line to run when leadership was lost, COMMAND gone (30s at most); not "
            "after a release.",
            show_default=False,
        ),
    ] = None,
    events: Annotated[
        str | None,
        typer.Option(
            "--events",
            metavar="PATH|fd:N",
            help="Append the events there, as JSON lines.",
            show_default=False,
        ),
    ] = None,
    result: Annotated[
        str | None,
        typer.Option(
            "--result",
            metavar="FILE",
            help="Write how it ended there, as one JSON object.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run a command only while leading, and stop it before leadership can pass to another.

    COMMAND and all its descendants get SIGTERM, then SIGKILL, before the lease that we hold can run
    out. A guardian process does that also when electctl itself is killed or stopped. Leadership is
    given back only when all of them are gone. SIGINT, SIGTERM and SIGHUP are forwarded to COMMAND,
    which has --grace to end; a second one kills it at once.

    What no guardian can do from user space: stop anything while the whole machine (or everything
    in it at once) is paused and then goes on; kill a process in uninterruptible sleep, of another
    user, or handed to another manager (systemd-run, a container engine). Give the fencing token,
    ELECTCTL_TOKEN, to whatever you write to: it is the answer to these. Full strength needs Linux;
    elsewhere only COMMAND's process group is killed.

    COMMAND gets ELECTCTL_ELECTION, ELECTCTL_ID, ELECTCTL_BACKEND (without its password),
    ELECTCTL_TOKEN (empty where the scheme has none), ELECTCTL_TOKEN_KIND and ELECTCTL_SOCKET, on
    which "electctl check" and "electctl checkpoint" work. ELECTCTL_PASSWORD is taken away. Hooks
    get the same, and --on-lost ELECTCTL_REASON. What --on-elected leaves running in the background
    is stopped before COMMAND starts. What has to be undone at every end belongs into COMMAND, in a
    trap: COMMAND is stopped before leadership is given up, and --on-lost runs only if it was lost.

    From cron on several hosts: --no-wait -E 0 --min-hold 30s lets one host run it per firing
    (--min-hold must exceed the hosts' clock differences, and the job's start). --once KEY is the
    strict form: after exit 0 a done mark is set under the guarded checkpoint; later candidates with
    that KEY exit 0 without running. A crash before the mark runs it again, and so does a command
    that was told to stop.

    --keep ends when told to stop, after --max-terms, when --wait runs out, or when COMMAND cannot
    be run. Its pause grows from 0.5 s to 30 s and starts afresh after a term of 30 s.

    \b
    Exit codes; --result FILE tells them from COMMAND's own:
      COMMAND's own  it ran to its end, or was told to stop; 128+n for signal n
      0              without COMMAND: told to stop
      2              usage
      3              --once: it cannot be known whether the done mark was set
      69             no contact with the backend within the smaller of --wait and 10s
      75             not elected within --wait, or somebody leads (-E N: exit with N)
      77             the backend refused our credentials
      78             bad configuration, unsafe timing, an ID that campaigns already
      79             leadership was lost, or COMMAND's done mark came too late
      126, 127       COMMAND cannot be run, is not found
      130, 143       interrupted, terminated before being elected
    """
    frame = Frame.of(ctx)
    url = frame.settings.backend_url(election)
    wait = _waiting(wait, no_wait)
    request = _weigh(
        frame,
        url,
        election,
        command=tuple(command or ()),
        candidate=id,
        ttl=ttl,
        grace=grace,
        wait=wait,
        conflict_exit_code=conflict_exit_code,
        keep=keep,
        max_terms=max_terms,
        min_hold=min_hold,
        once=once,
        on_elected=on_elected,
        on_lost=on_lost,
    )
    raise typer.Exit(_campaign(frame, url, request, events, result))


def _waiting(wait: float | None, no_wait: bool) -> float | None:
    if no_wait and wait is not None:
        raise UsageError("--wait and --no-wait contradict each other", hint="leave one of them out")
    return 0.0 if no_wait else wait


def _weigh(
    frame: Frame,
    url: BackendURL,
    election: str,
    *,
    command: tuple[str, ...],
    candidate: str | None,
    ttl: float | None,
    grace: float | None,
    wait: float | None,
    conflict_exit_code: int | None,
    keep: bool,
    max_terms: int | None,
    min_hold: float | None,
    once: str | None,
    on_elected: str | None,
    on_lost: str | None,
) -> _Request:
    """Flag, then config file, then default; and whether it all fits together."""
    from electctl.campaign.orders import Plan
    from electctl.campaign.supervisor import Job
    from electctl.elector import check_name, default_id
    from electctl.errors import NotElected
    from electctl.registry import plugin

    said = frame.settings.election(election)
    hold = said.min_hold if min_hold is None else min_hold
    code = said.conflict_exit_code if conflict_exit_code is None else conflict_exit_code
    elected = said.on_elected if on_elected is None else on_elected
    lost = said.on_lost if on_lost is None else on_lost
    job = Job(
        election=check_name(election, "election name"),
        candidate=check_name(_first(candidate, said.id, default_id()), "candidate id"),
        scheme=url.scheme,
        url=url.without_password(),
        argv=command,
        ttl=said.ttl if ttl is None else ttl,
        grace=said.grace if grace is None else grace,
        wait=said.wait if wait is None else wait,
        on_elected=elected,
        on_lost=lost,
        once=once,
        plan=Plan(
            command=bool(command),
            on_elected=bool(elected),
            on_lost=bool(lost),
            once=once is not None,
            min_hold=hold or 0.0,
            conflict_exit=NotElected.exit_code if code is None else code,
        ),
    )
    request = _Request(
        job,
        # A config file that says "keep" means the service, not a run-once call of it.
        keep or (bool(said.keep) and once is None and wait != 0),
        said.max_terms if max_terms is None else max_terms,
    )
    _check_together(request, flag_max_terms=max_terms)
    _check_scheme(job, plugin(url.scheme).traits_of(url.scheme))
    return request


def _first(flag: str | None, said: str | None, default: str) -> str:
    if flag is not None:
        return flag
    return default if said is None else said


def _check_together(request: _Request, *, flag_max_terms: int | None) -> None:
    job = request.job
    plan = job.plan
    if job.argv and not job.argv[0]:
        raise UsageError("the command is empty", hint="electctl campaign ELECTION -- COMMAND")
    if not 0 <= plan.conflict_exit <= 255:
        raise UsageError(
            f"--conflict-exit-code {plan.conflict_exit}: an exit code is between 0 and 255",
            hint="-E 0 makes it no error to find a leader",
        )
    if request.keep and job.wait == 0:
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


def _check_scheme(job: Job, traits: Traits) -> None:
    from electctl.errors import Unsupported
    from electctl.lease import Timing

    if job.plan.once and not traits.checkpoint:
        raise Unsupported(
            f"--once needs a guarded checkpoint, which {job.scheme}:// does not have",
            hint="electctl backends lists the schemes that have one",
        )
    Timing.of(traits, job.ttl, job.grace)


def _campaign(
    frame: Frame, url: BackendURL, request: _Request, events: str | None, result: str | None
) -> int:
    """Run it; returns the exit code. The guardian is forked before anything starts a thread."""
    from electctl.campaign.guardian import Guardian
    from electctl.campaign.result import ResultFile
    from electctl.campaign.supervisor import Inbox
    from electctl.campaign.term import failed
    from electctl.cli.campaign_output import Output, open_events
    from electctl.errors import CannotRun

    result_file = None if result is None else ResultFile(Path(result))
    if result_file is not None:
        result_file.check()
    events_fd = None if events is None else open_events(events)
    plan = request.job.plan
    # Before the guardian: what is started here is no part of any campaign's tree.
    trouble = _prepare(frame, url)
    guardian = None
    if trouble is None and (plan.command or plan.on_elected):
        try:
            guardian = Guardian.spawn()
        except OSError as error:
            raise CannotRun(f"the guardian cannot be started: {error.strerror}") from None
    output = Output(frame, events_fd)
    try:
        with Inbox() as inbox:
            if trouble is not None:
                finish, term, terms = failed(trouble, plan.conflict_exit), None, 0
            else:
                finish, term, terms = _supervise(url, request, guardian, inbox, output)
            _report(request.job, finish, term, terms, result_file, output)
    finally:
        if guardian is not None:
            guardian.close()
        output.flush()
    return finish.exit_code


def _prepare(frame: Frame, url: BackendURL) -> ElectctlError | None:
    """Have started what the scheme starts by itself. With --json, stderr is for events alone."""
    from electctl.cli.targets import prepare
    from electctl.errors import ElectctlError

    try:
        prepare(replace(frame, quiet=True) if frame.json else frame, url)
    except ElectctlError as error:
        return error
    return None


def _supervise(
    url: BackendURL,
    request: _Request,
    guardian: Guardian | None,
    inbox: Inbox,
    output: Output,
) -> tuple[Finish, Term | None, int]:
    from electctl.campaign.supervisor import Supervisor, new_keep
    from electctl.campaign.term import failed
    from electctl.elector import connect
    from electctl.errors import ElectctlError

    keep = new_keep(request.keep, request.max_terms)
    try:
        elector = connect(url)
        supervisor = Supervisor(request.job, elector, guardian, inbox, output.tell)
        finish, term = supervisor.run(keep)
        elector.close()
    except ElectctlError as error:
        return failed(error, request.job.plan.conflict_exit), None, keep.terms
    return finish, term, keep.terms


def _report(
    job: Job,
    finish: Finish,
    term: Term | None,
    terms: int,
    result_file: ResultFile | None,
    output: Output,
) -> None:
    """The last event, the last words, the result file."""
    from electctl.campaign.supervisor import summary
    from electctl.events import Event

    ended = summary(job, finish, term, terms)
    shown = {name: ended[name] for name in ("outcome", "exit_code", "message", "candidate")}
    token = None if term is None else term.token
    output.tell(Event("finished", job.election, job.scheme, None, token, shown))
    if finish.message:
        told = term is not None and term.was_told(finish)
        output.conclude(finish.message, finish.hint, told=told, failed=finish.exit_code != 0)
    if result_file is not None:
        try:
            result_file.write(ended)
        except OSError as error:
            output.complain(f"--result {result_file.path}: {error.strerror}", None)
