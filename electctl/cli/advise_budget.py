"""``electctl advise --budget``: what a leadership does when, for one TTL on one scheme.

What this does not guarantee: the store's own times. See :mod:`electctl.advise.budget`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from electctl.advise.budget import Budget, plan
from electctl.cli import prose, render
from electctl.contract.url import BackendURL
from electctl.core.registry import plugin, schemes

if TYPE_CHECKING:
    from electctl.cli.frame import Frame
    from electctl.contract.traits import Traits

_HEADS = ("WHEN", "STEP", "WHAT HAPPENS")


def show_budget(frame: Frame, ttl: float | None, grace: float | None) -> None:
    """Print the budget on every backend named. Raises UnsafeTiming, as a campaign does."""
    said = frame.settings.election()
    ttl = said.ttl if ttl is None else ttl
    grace = said.grace if grace is None else grace
    found = []
    for where, scheme in _backends(frame):
        traits = plugin(scheme).traits_of(scheme)
        found.append((where, traits, plan(traits, ttl, grace)))
    for where, traits, budget in found:
        if frame.json:
            frame.emit(_as_dict(where, traits, budget))
        else:
            frame.print(_text(where, traits, budget))


def _backends(frame: Frame) -> list[tuple[str, str]]:
    """What to show and its scheme, of each backend; a bare scheme will do."""
    found = []
    for text in frame.backends:
        bare = text.removesuffix("://")
        if bare in schemes():
            found.append((f"{bare}://", bare))
        else:
            url = BackendURL.parse(text)
            found.append((url.masked(), url.scheme))
    return found or [(url.masked(), url.scheme) for url in frame.settings.backend_urls()]


def _text(where: str, traits: Traits, budget: Budget) -> str:
    timing = budget.timing
    rows = [
        (budget.renew, "renew", "the next renewal is sent"),
        (budget.detect, "detect", "one without an answer is given up, the next one is sent"),
        (budget.term, "TERM", "no renewal: SIGTERM to the command"),
        (budget.kill, "KILL", "SIGKILL to what is left of it"),
        (budget.valid_until, "end", "our leadership ends here, whatever the store says"),
        (budget.expiry, "expiry", "the store may let go of it from here on"),
        (budget.takeover, "take-over", "another one may lead from here on"),
    ]
    head = (
        f"{render.shown(where)} with ttl {_seconds(timing.ttl)} "
        f"and grace {_seconds(timing.grace)}: safe.\n"
        "Counted from when the last renewal that was confirmed had been sent.\n\n"
    )
    table = render.table(_HEADS, [(_seconds(at), step, what) for at, step, what in rows])
    remarks = [
        f"A renewal every {_seconds(timing.renew_interval)}; after one that was missed, the next "
        f"has {_seconds(budget.spare)} for its answer.",
        f"Between KILL and expiry: {_seconds(budget.expiry - budget.kill)}, of which "
        f"{_seconds(timing.drift)} is for clocks that drift.",
        f"Worst fail-over after a host's crash: {_seconds(budget.failover)} ({traits.failover}). "
        + traits.failover_note,
        f"Requests a second: {budget.leading_rate:.3g} by who leads, {budget.waiting_rate:.3g} at "
        "most by each who waits.",
    ]
    if budget.granted != timing.ttl:
        remarks.append(
            f"With its usual settings the store makes {_seconds(budget.granted)} of that TTL."
        )
    columns = prose.width()
    wrapped = "\n".join(prose.wrapped(render.shown(text), columns, "  ", "") for text in remarks)
    return f"{head}{table}\n{wrapped}\n"


def _seconds(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") + " s"


def _as_dict(where: str, traits: Traits, budget: Budget) -> dict[str, Any]:
    timing = budget.timing
    return {
        "backend": where,
        "safe": True,
        "ttl": timing.ttl,
        "grace": timing.grace,
        "margin": timing.margin,
        "drift": timing.drift,
        "renew_interval": timing.renew_interval,
        "request_timeout": timing.request_timeout,
        "renew": budget.renew,
        "detect": budget.detect,
        "spare": budget.spare,
        "term": budget.term,
        "kill": budget.kill,
        "valid_until": budget.valid_until,
        "expiry": budget.expiry,
        "takeover": budget.takeover,
        "failover": budget.failover,
        "failover_formula": traits.failover,
        "failover_note": traits.failover_note,
        "granted": budget.granted,
        "leading_rate": budget.leading_rate,
        "waiting_rate": budget.waiting_rate,
    }
