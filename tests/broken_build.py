"""electctl with one thing broken, for drills that must notice: ``broken_build.py WHAT ARGS…``.

Test-only. The product has no switch for any of these. ``ledger`` and ``stubborn`` are the drill's
own programs, run with the rest as their arguments.
"""

from __future__ import annotations

import math
import runpy
import signal
import sys
from dataclasses import replace
from pathlib import Path

DRILL = Path(__file__).parent.parent / "electctl" / "drill"


def no_guardian() -> None:
    """The guardian does what electctl tells it, and nothing when the time is up; nor the third."""
    from electctl.campaign import lookout, stopping, warden

    feed = warden.Warden.feed

    def obey(self: warden.Warden, event: stopping.Event) -> None:
        if not isinstance(event, stopping.Tick):
            feed(self, event)

    warden.Warden.feed = obey  # type: ignore[method-assign]
    warden.Warden.wake_at = lambda self: math.inf  # type: ignore[method-assign]
    lookout._Command.kill = lambda self: False  # type: ignore[method-assign]


def from_receipt() -> None:
    """A renewal counts from when its answer came, not from when it was sent."""
    from electctl.base.clock import now
    from electctl.contract.backend import Renewal
    from electctl_redis.candidacy import RedisCandidacy

    renew = RedisCandidacy.renew

    def late(self: RedisCandidacy) -> Renewal:
        return replace(renew(self), since=now())

    RedisCandidacy.renew = late  # type: ignore[method-assign]


def unchecked_ledger() -> None:
    """The fenced resource takes every token."""
    from electctl.drill import ledger

    ledger.Ledger._write = lambda self, token: b"accepted"  # type: ignore[method-assign]
    ledger.main()


def stubborn_writer() -> None:
    """The command ignores SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    runpy.run_path(str(DRILL / "writer.py"), run_name="__main__")


def main() -> None:
    """Break it, then run it."""
    what = sys.argv.pop(1)
    match what:
        case "ledger":
            unchecked_ledger()
        case "stubborn":
            stubborn_writer()
        case _:
            {"no-guardian": no_guardian, "from-receipt": from_receipt}[what]()
            from electctl.__main__ import main as electctl

            electctl()


if __name__ == "__main__":
    main()
