"""``electctl campaign``: run a command only while leading.

What this does not guarantee: see the help text, and :mod:`electctl.campaign`.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from electctl.cli.app import Command, new_app
from electctl.cli.frame import Frame
from electctl.cli.options import Duration
from electctl.errors import UsageError

if TYPE_CHECKING:
    from electctl.campaign.guardian import Guardian
    from electctl.campaign.inbox import Inbox
    from electctl.campaign.orders import Finish
    from electctl.campaign.result import ResultFile
    from electctl.campaign.task import Job
    from electctl.campaign.term import Term
    from electctl.campaign.terminal import Terminal
    from electctl.cli.campaign_output import Output
    from electctl.cli.campaign_request import Request
    from electctl.contract.url import BackendURL
    from electctl.errors import ElectctlError

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
    stop: Annotated[
        str | None,
        typer.Option(
            "--stop",
            metavar="main|all",
            help="Who gets the first signal when COMMAND is told to stop while we lead: its own "
            "process, or all that it has started. [default: all]",
            show_default=False,
        ),
    ] = None,
    stop_timeout: Annotated[
        float | None,
        Duration(
            "--stop-timeout",
            help="How long COMMAND may take to stop while we lead. [default: --grace]",
        ),
    ] = None,
    max_run: Annotated[
        float | None,
        Duration("--max-run", help="Stop COMMAND after this time, and exit with 124."),
    ] = None,
    margin: Annotated[
        float | None,
        Duration(
            "--margin",
            help="From SIGKILL to the lease's end. [default: what this host needs, 100ms or more]",
        ),
    ] = None,
    socket: Annotated[
        str | None,
        typer.Option(
            "--socket",
            metavar="PATH",
            help="Answer check and checkpoint there, also for probes. [default: a private place]",
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
    given back only when all of them are gone; then at once, also if electctl was killed. SIGINT,
    SIGTERM and SIGHUP are forwarded to COMMAND, which has --stop-timeout to end, while we go on
    leading; a second one kills it at once. Other signals are passed on to it, and open descriptors
    too. It shares our terminal, if there is one: Ctrl-C and Ctrl-Z mean both.

    What no guardian can do from user space: stop anything while the whole machine (or everything
    in it at once) is paused and then goes on; kill a process in uninterruptible sleep, of another
    user, or handed to another manager (systemd-run, a container engine). Give the fencing token,
    ELECTCTL_TOKEN, to whatever you write to: it is the answer to these. Full strength needs Linux;
    elsewhere only COMMAND's process group is killed.

    --margin is what the guardian has for killing. It is starved by a CPU quota on the cgroup that
    it shares with COMMAND, by a tree of thousands of processes, by a host that swaps, and by who
    stops the guardian (SIGSTOP); where one of these is usual, raise --margin, and --ttl with it.
    "margin_ms" in --result is what was left of it.

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

    --keep ends when told to stop, after --max-terms, when --wait runs out, when COMMAND cannot be
    run, or when the guardian was killed (79: start it again). Its pause grows from 0.5 s to 30 s
    and starts afresh after a term of 30 s.

    \b
    Exit codes; --result FILE tells them from COMMAND's own:
      COMMAND's own  it ran to its end, or was told to stop; 128+n for signal n
      0              without COMMAND: told to stop
      2              usage
      3              --once: it cannot be known whether the done mark was set
      69             no contact with the backend within the smaller of --wait and 10s, or it could
                     not take us in and nobody was seen leading
      70             a bug of electctl; COMMAND was stopped, the leadership given back
      75             somebody was seen leading until --wait ran out (-E N: exit with N)
      77             the backend refused our credentials
      78             bad configuration, unsafe timing, an ID that campaigns already
      79             leadership was lost, or COMMAND's done mark came too late
      124            COMMAND ran longer than --max-run
      126, 127       COMMAND cannot be run, is not found
      130, 143       interrupted, terminated before being elected
    """
    from electctl.cli.campaign_request import weigh
    from electctl.cli.config import ElectionSettings

    frame = Frame.of(ctx)
    flags = ElectionSettings(
        id=id,
        ttl=ttl,
        grace=grace,
        wait=_waiting(wait, no_wait),
        keep=keep or None,
        max_terms=max_terms,
        min_hold=min_hold,
        conflict_exit_code=conflict_exit_code,
        on_elected=on_elected,
        on_lost=on_lost,
        stop=stop,
        stop_timeout=stop_timeout,
        max_run=max_run,
        margin=margin,
        socket=socket,
    )
    url = frame.settings.backend_url(election)
    file = frame.settings.election(election)
    request = weigh(url, election, tuple(command or ()), flags, file, once)
    raise typer.Exit(_campaign(frame, url, request, events, result))


def _waiting(wait: float | None, no_wait: bool) -> float | None:
    if no_wait and wait is not None:
        raise UsageError("--wait and --no-wait contradict each other", hint="leave one of them out")
    return 0.0 if no_wait else wait


def _campaign(
    frame: Frame, url: BackendURL, request: Request, events: str | None, result: str | None
) -> int:
    """Run it; returns the exit code. The guardian is forked before anything starts a thread."""
    from electctl.base.ending import die_of
    from electctl.campaign import inherited, places
    from electctl.campaign.ending import failed
    from electctl.campaign.guardian import Guardian
    from electctl.campaign.inbox import Inbox
    from electctl.campaign.releaser import Releaser
    from electctl.campaign.result import ResultFile
    from electctl.campaign.terminal import Terminal
    from electctl.cli.campaign_output import Output, open_events
    from electctl.errors import CannotRun

    result_file = None if result is None else ResultFile(Path(result))
    if result_file is not None:
        result_file.check()
        inherited.claim(result_file.path)
    destination = None if events is None else open_events(events)
    if request.job.socket is not None:
        places.named(request.job.socket)
    # Before the guardian: what is started here is no part of any campaign's tree.
    trouble = _prepare(frame, url)
    guardian = terminal = signum = None
    if trouble is None:
        try:
            terminal = Terminal.open()
            guardian = Guardian.spawn(
                Releaser(url).serve, given=inherited.given(), terminal=terminal is not None
            )
        except OSError as error:
            raise CannotRun(f"the guardian cannot be started: {error.strerror}") from None
    # First of all that follows: no thread may be there that signals are not blocked in.
    with Inbox() as inbox:
        output = Output(frame, destination)
        if guardian is None:
            why = trouble or CannotRun("there is no guardian")
            finish, term, terms = failed(why, request.job.plan.conflict_exit), None, 0
            in_order = True
        else:
            finish, term, terms, in_order, signum = _supervise(
                url, request, guardian, inbox, output, terminal
            )
        _report(request.job, finish, term, terms, result_file, output)
        # The guardian stops and gives back what is left by whoever goes without goodbye.
        if guardian is not None and in_order:
            guardian.close()
        output.flush()
    if signum is not None:
        die_of(signum)
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
    request: Request,
    guardian: Guardian,
    inbox: Inbox,
    output: Output,
    terminal: Terminal | None,
) -> tuple[Finish, Term | None, int, bool, int | None]:
    from electctl.campaign.ending import failed
    from electctl.campaign.keep import Keep
    from electctl.campaign.notify import Notifier
    from electctl.campaign.supervisor import Supervisor
    from electctl.core.elector import connect
    from electctl.errors import ElectctlError

    keep = Keep(request.keep, request.max_terms, random.random)
    try:
        elector = connect(url)
        notifier = Notifier.from_environ(os.environ)
        supervisor = Supervisor(
            request.job, elector, guardian, inbox, output.tell, notifier, terminal
        )
    except ElectctlError as error:
        return failed(error, request.job.plan.conflict_exit), None, keep.terms, True, None
    finish, term = supervisor.run(keep)
    return finish, term, keep.terms, supervisor.in_order, supervisor.dies_of(finish)


def _report(
    job: Job,
    finish: Finish,
    term: Term | None,
    terms: int,
    result_file: ResultFile | None,
    output: Output,
) -> None:
    """The last event, the last words, the result file."""
    from electctl.campaign.result import summary
    from electctl.record.events import Event

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
