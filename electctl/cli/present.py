"""How a stream of sightings is shown: a live table, lines for people, JSON lines.

What this does not guarantee: that whoever reads the lines keeps up with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from electctl.base.clock import timestamp
from electctl.cli import render

if TYPE_CHECKING:
    from electctl.cli.frame import Frame
    from electctl.core.observe import Change
    from electctl.record.watch import Sighting, Target


class Presenter(Protocol):
    """Shows a stream; a context manager."""

    #: Seconds after which :meth:`refresh` wants to be called although nothing changed.
    tick: float | None

    def show(self, sighting: Sighting) -> None:
        """Show one change."""

    def refresh(self) -> bool:
        """Show the time that has passed; False once whoever watches has seen enough."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def presenter(frame: Frame, targets: Sequence[Target], wake: Callable[[], None]) -> Presenter:
    """The one that suits the options and the terminal; ``wake`` has ``refresh`` called soon."""
    if frame.json:
        return _Lines(frame, _json)
    if render.is_live(frame.stdout):
        from electctl.cli.live import LiveTable
        from electctl.cli.screen import Screen, in_foreground

        if in_foreground(frame.stdout):
            return LiveTable(targets, Screen(frame.stdout, wake))
    several = len({target.url.masked() for target in targets}) > 1
    return _Lines(frame, lambda sighting: _sentence(sighting, name_backend=several))


class _Lines:
    """One line a change."""

    tick: float | None = None

    def __init__(self, frame: Frame, line: Callable[[Sighting], str]) -> None:
        self._frame = frame
        self._line = line

    def show(self, sighting: Sighting) -> None:
        self._frame.print(self._line(sighting))

    def refresh(self) -> bool:
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


def _json(sighting: Sighting) -> str:
    from electctl.record.watch import event_of

    return event_of(sighting.target, sighting.change).as_line()


def _sentence(sighting: Sighting, *, name_backend: bool) -> str:
    target, change = sighting.target, sighting.change
    where = f" on {target.url.masked()}" if name_backend else ""
    return f"{timestamp(change.at)}  {render.shown(target.election)}{where}: {_state(change)}"


def _state(change: Change) -> str:
    if change.kind == "unreachable":
        return f"unreachable: {render.message_text(change.cause)}"
    holder = change.view.holder
    queue = f", waiting {names}" if (names := render.names(change.view.waiting)) else ""
    if holder is None:
        text = f"nobody leads{render.doubt(change.view)}{queue}"
    else:
        token = "" if holder.token is None else f" (token {holder.token})"
        name = render.shown(render.holder_name(holder.id))
        text = f"{name} leads{token}{render.doubt(change.view)}{queue}"
    return f"recovered: {text}" if change.kind == "recovered" else text
