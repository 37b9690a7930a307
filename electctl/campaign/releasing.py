"""The releaser process: gives the grant back when electctl is gone, and the third that may kill.

What this does not guarantee: that anything is given back (see what serves it,
``electctl.campaign.releaser``), and what stands in :mod:`electctl.campaign.lookout`, which is run
here in a thread of its own.

It is forked from electctl with the guardian, from the same state and as early, is a child of
electctl and no part of the command's tree. The guardian never waits for it: messages that it does
not take are kept up to a bound, and then it is given up.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from electctl.campaign import prctl
from electctl.campaign.cgroup import Cgroup
from electctl.campaign.channel import Channel
from electctl.campaign.helper import close_all_but, describe
from electctl.campaign.lookout import Deadlines, Lookout

#: What the releaser runs: it gets its end of a socket pair, and reads lines of JSON:
#: ``{"do": "hold", "receipt": …}``, ``{"do": "drop"}``, ``{"do": "release"}``. At the end of the
#: stream without ``release`` nothing is to be given back.
Serve = Callable[[socket.socket], None]

#: What a releaser that does not read is owed at most, in bytes.
_PATIENCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Ends:
    """One side of the two socket pairs: for the releaser's orders, and for its watch."""

    orders: socket.socket
    watch: socket.socket

    @classmethod
    def pair(cls) -> tuple[Ends, Ends]:
        """The guardian's side, and the releaser's. Raises OSError."""
        orders, watch = socket.socketpair(), socket.socketpair()
        return cls(orders[0], watch[0]), cls(orders[1], watch[1])

    def filenos(self) -> tuple[int, int]:
        return self.orders.fileno(), self.watch.fileno()

    def close(self) -> None:
        self.orders.close()
        self.watch.close()


class Releaser:
    """The guardian's side: tells the releaser, and never waits for it."""

    def __init__(self, ends: Ends | None) -> None:
        self._orders = None if ends is None else Channel(ends.orders)
        self._watch = None if ends is None else Channel(ends.watch)
        self._held = False
        self._words = ""

    def hold(self, receipt: str) -> None:
        """What is to be given back if electctl dies."""
        self._held = True
        _tell(self._orders, {"do": "hold", "receipt": receipt})

    def drop(self) -> None:
        """There is nothing to give back."""
        self._held = False
        _tell(self._orders, {"do": "drop"})

    def release(self) -> None:
        """electctl is gone, and so is the command: give back what is held."""
        if self._held:
            _tell(self._orders, {"do": "release"})

    def fileno(self) -> int:
        """Readable when the releaser has failed or ended; -1 if there is none."""
        return -1 if self._orders is None else self._orders.fileno()

    def last_words(self) -> tuple[str, bool]:
        """Why the releaser has failed, if it has said so, and whether it is gone."""
        assert self._orders is not None
        words, gone = self._orders.receive()
        # Its end may be heard of later than its words.
        self._words += "".join(f" ({word['failed']})" for word in words)
        return self._words, gone

    def command(self, pid: int, cgroup: Cgroup | None, *, session: bool) -> None:
        """A command runs; ``session``: in a session of its own."""
        path = None if cgroup is None else str(cgroup.path)
        told = {"pid": pid, "cgroup": path, "session": session, "guardian": os.getpid()}
        _tell(self._watch, {"do": "command", **told})

    def command_gone(self) -> None:
        """Nothing is left of it."""
        _tell(self._watch, {"do": "gone"})


def _tell(channel: Channel | None, message: dict[str, object]) -> None:
    if channel is None:
        return
    channel.send(message)
    if channel.pending > _PATIENCE:
        channel.give_up()


def run(ends: Ends, electctl: int, deadlines: Deadlines, serve: Serve) -> None:
    """Be the releaser of electctl (process ``electctl``). All signals are blocked by the caller.

    What fails is told to the guardian, whose user hears of it (:meth:`Releaser.last_words`).
    """
    with _last_words(ends):
        os.setsid()
        close_all_but(*ends.filenos())
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            # Whoever reads what electctl prints must not have to wait for us.
            os.dup2(nothing, standard)
        os.close(nothing)
        prctl.rename("leadrelease", f"leadrelease of {electctl}", keep_environment=True)
        prctl.hide_variable("ELECTCTL_PASSWORD")
        lookout = Lookout(ends.watch, electctl, deadlines)
        watch = threading.Thread(target=_watch, args=(ends, lookout))
        watch.start()
    try:
        with _last_words(ends):
            serve(ends.orders)
    finally:
        watch.join()


@contextlib.contextmanager
def _last_words(ends: Ends) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(OSError):
            # The other thread may be reading there, and must not fail of it.
            words = json.dumps({"failed": describe(error)}).encode() + b"\n"
            ends.orders.send(words, socket.MSG_DONTWAIT)
            ends.orders.shutdown(socket.SHUT_RDWR)
        raise


def _watch(ends: Ends, lookout: Lookout) -> None:
    with _last_words(ends):
        lookout.run()
