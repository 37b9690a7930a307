"""``electctl check``: do we still lead, says our campaign; does ID lead, says the store.

What this does not guarantee: that the answer is still true when it is read. Inside a campaign
``remaining_ms`` says for how long it holds. From outside nothing does: the leadership may end as
soon as the store has answered.

``electctl.__main__`` answers the plain forms of the first question without loading this module.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from electctl.cli.app import Command, new_app
from electctl.cli.frame import Frame
from electctl.cli.options import Duration
from electctl.errors import Inconclusive, OutcomeUnknown, Unreachable, UsageError

if TYPE_CHECKING:
    from electctl.contract.backend import Holder, View
    from electctl.contract.url import BackendURL

app = new_app()

EXAMPLES = """
electctl campaign nightly -- sh -c 'electctl check && echo we lead'
electctl campaign nightly -- electctl check --json
electctl check nightly --id host-a -q -b etcd://127.0.0.1:2379
electctl check nightly --id host-a --least-token 42 --timeout 1s
electctl check nightly --json
"""
#: Seconds. Whoever asks from outside (a load balancer, a script) decides something by the answer.
TIMEOUT = 3.0


@app.command("check", cls=Command, epilog=EXAMPLES)
def check(
    ctx: typer.Context,
    election: Annotated[
        str | None,
        typer.Argument(
            metavar="[ELECTION]",
            help="Ask the store who leads this election, from anywhere.",
            show_default=False,
        ),
    ] = None,
    id_: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="ID",
            help="With ELECTION: whether this candidate leads; default: whether anybody does.",
            show_default=False,
        ),
    ] = None,
    least_token: Annotated[
        int | None,
        typer.Option(
            "--least-token",
            metavar="N",
            help="With ELECTION: and under a fencing token of at least N.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        Duration("--timeout", help="With ELECTION: 69 after this time; default: 3s."),
    ] = None,
) -> None:
    """Do we still lead? Or, with ELECTION, from any host: does ID lead?

    Without ELECTION it asks the campaign whose command calls it, over ELECTCTL_SOCKET, not the
    store: the answer is what campaign acts on, and fast enough for a loop. --json prints
    {"leading", "remaining_ms", "token"}.

    With ELECTION it asks the store, inside a campaign too, for load balancers and scripts on other
    hosts. A store built on consensus answers with what a majority has agreed on, so a member that
    was cut off cannot say "yes"; a Redis answers with what it has.

    The answer ages: a leader may stop, and another begin, as soon as it is given. What must not
    happen under a stale leader belongs under the guarded checkpoint, or behind the fencing token.

    \b
    Exit codes:
      0   leading
      1   not leading: nobody leads, another id, or a lower token
      2   not inside a campaign, and no ELECTION
      3   it cannot be known: the campaign is stopped or gone, or did not answer within 1s; the
          leader has no name or no token to compare; the store itself is not certain
      69  the store did not answer
      77  the store refused our credentials
    """
    frame = Frame.of(ctx)
    if election is not None:
        raise typer.Exit(_ask_store(frame, election, id_, least_token, timeout))
    given = {"--id": id_, "--least-token": least_token, "--timeout": timeout}
    for option, value in given.items():
        if value is not None:
            raise UsageError(
                f"check: {option} is for a question to the store",
                hint=f"electctl check ELECTION {option} …",
            )
    from electctl.campaign.ask import check_main

    raise typer.Exit(check_main(as_json=frame.json, quiet=frame.quiet))


def _ask_store(
    frame: Frame,
    election: str,
    candidate: str | None,
    least_token: int | None,
    timeout: float | None,
) -> int:
    """Print the answer; 0 for yes, 1 for no, 3 if it is uncertain.

    Raises Inconclusive, Unreachable, Refused.
    """
    from electctl.base.clock import now, timestamp
    from electctl.cli.asking import Asking
    from electctl.cli.render import doubt
    from electctl.contract.naming import check_name
    from electctl.core.registry import canonical

    if candidate is not None:
        check_name(candidate, "candidate id")
    limit = TIMEOUT if timeout is None else timeout
    if limit == 0:
        raise UsageError("--timeout 0 leaves no time to ask", hint="as in --timeout 1s")
    url = frame.settings.backend_url(election)
    election = canonical(url, election)
    asked = now()
    view = Asking(url.masked(), limit, partial(_look, frame, url, election)).answer()
    holder = view.holder
    took = now() - asked
    no = _refusal(holder, candidate, least_token)
    if no is None:
        _must_be_known(holder, election, candidate, least_token)
    if frame.json:
        frame.emit(
            {
                "ts": timestamp(asked),
                "election": election,
                "backend": url.scheme,
                "url": url.masked(),
                "leading": no is None,
                "holder": None if holder is None else holder.id,
                "token": None if holder is None else holder.token,
                "expires_in": None if holder is None else holder.expires_in,
                "took_ms": round(took * 1000),
                **({} if view.certain else {"certain": False, "doubt": view.doubt}),
            }
        )
    elif not frame.quiet:
        frame.print(_sentence(holder, election) + (no or "") + doubt(view))
    if not view.certain:
        return Inconclusive.exit_code
    return 0 if no is None else 1


def _look(frame: Frame, url: BackendURL, election: str) -> View:
    """Who leads in the store. A question has no outcome: whatever is not an answer is silence."""
    from electctl.cli.targets import prepare
    from electctl.core.registry import open_backend

    prepare(frame, url)
    with open_backend(url) as backend:
        try:
            view = backend.view(election)
        except OutcomeUnknown as error:
            raise Unreachable(error.message, hint=error.hint) from None
        for note in sorted(backend.notes):
            frame.note(f"warning: {note}")
        return view


def _refusal(holder: Holder | None, candidate: str | None, least_token: int | None) -> str | None:
    """Why the answer is certainly "no", as the end of a sentence; None if it is not."""
    if holder is None:
        return ""
    if candidate is not None and holder.id and holder.id != candidate:
        from electctl.cli.render import shown

        return f", not {shown(candidate)}"
    if least_token is not None and holder.token is not None and holder.token < least_token:
        return f", below {least_token}"
    return None


def _must_be_known(
    holder: Holder | None, election: str, candidate: str | None, least_token: int | None
) -> None:
    """Raise Inconclusive if what was asked for cannot be seen in the store."""
    foreign = "a foreign tool holds it; electctl holders shows what is known"
    if holder is not None and candidate is not None and not holder.id:
        raise Inconclusive(
            f"somebody without a name leads {election!r}: whether it is {candidate!r} "
            "cannot be known",
            hint=foreign,
        )
    if holder is not None and least_token is not None and holder.token is None:
        raise Inconclusive(
            f"the leader of {election!r} has no token: whether it is {least_token} or more "
            "cannot be known",
            hint=foreign,
        )


def _sentence(holder: Holder | None, election: str) -> str:
    from electctl.cli.render import holder_name, shown

    if holder is None:
        return f"nobody leads {shown(election)}"
    token = "" if holder.token is None else f" (token {holder.token})"
    return f"{shown(holder_name(holder.id))} leads {shown(election)}{token}"
