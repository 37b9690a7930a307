"""Labs that outlive the command which made them: up, down, what there is, links.

What this does not guarantee: that a lab which is up stays up; its keeper can be killed, and its
servers go with it. Their data stays, and ``up`` starts them on it again.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from difflib import get_close_matches
from typing import Any, Literal

from electctl.base.clock import now, timestamp
from electctl.errors import Unreachable, Unsupported, UsageError
from electctl.lab import control
from electctl.lab.cluster import make_cluster
from electctl.lab.keeper import KEEP
from electctl.lab.state import LabDir, Record

Say = Callable[[str], None]
State = Literal["up", "starting", "silent", "stopped"]

#: Seconds after which a command that waits says so, first and then again.
PATIENCE = (2.0, 10.0)
#: How long a keeper may take to end: its servers are asked one after the other.
END_TIMEOUT = 60.0
POLL = 0.02


def status(lab: LabDir) -> dict[str, Any]:
    """One lab as a JSON object; ``state`` tells whether it runs.

    ``starting``: its keeper has not got all servers to answer yet. ``silent``: its keeper does not
    answer. ``stopped``: nothing runs, its data is there.
    """
    state: State
    try:
        if answer := control.ask(lab, {"do": "status"}):
            return answer
        state = "starting" if lab.is_held() else "stopped"
    except Unreachable:
        state = "silent"
    record = lab.read() or Record(lab.name, "", 0, False, "")
    return {**asdict(record), "state": state, "servers": []}


def up(
    scheme: str, *, name: str | None, nodes: int | None, proxied: bool, say: Say
) -> tuple[dict[str, Any], bool]:
    """Bring a lab up, or find it up: its status, and whether it was up before.

    Raises UsageError (unknown scheme, bad name or node count, another lab has that name),
    Unsupported (no lab, or no proxies, for this scheme), MissingDependency, Unreachable (a server
    does not start). Whatever ends this call before it returns, SIGKILL included, takes down what it
    started.
    """
    lab = LabDir.named(name or scheme)
    cluster = make_cluster(scheme, lab.data, nodes)
    if proxied and not cluster.proxyable:
        raise Unsupported(
            f"{scheme} tells its clients of servers behind no proxy", hint="leave --proxy out"
        )
    wanted = Record(lab.name, scheme, cluster.nodes, proxied, timestamp())
    waiting = _Patience(f"lab {lab.name} is being started by another command", say)
    while True:
        if lab.is_held():
            found = status(lab)
            if found["state"] == "up":
                _check_same(wanted, Record(**{k: found[k] for k in asdict(wanted)}))
                return found, True
            if found["state"] == "silent":
                raise Unreachable(
                    f"lab {lab.name} is up, and its keeper does not answer",
                    hint=f"electctl lab down {lab.name} ends it all the same",
                )
            waiting.step()
            time.sleep(POLL)
            continue
        if (left := lab.read()) is not None:
            _check_same(wanted, left)
        if (made := _launch(wanted, say)) is not None:
            return made, False


def _check_same(wanted: Record, there: Record) -> None:
    different = [
        f"{what} {ours!s} was asked for, it has {theirs!s}"
        for what, ours, theirs in (
            ("scheme", wanted.scheme, there.scheme),
            ("nodes", wanted.nodes, there.nodes),
            ("proxies", wanted.proxied, there.proxied),
        )
        if ours != theirs
    ]
    if different:
        raise UsageError(
            f"there is another lab {wanted.name} already: {'; '.join(different)}",
            hint=f"choose another --name, or electctl lab down {wanted.name}",
        )


def _launch(wanted: Record, say: Say) -> dict[str, Any] | None:
    """Start a keeper and wait for its word; None if another has the lab."""
    ours, theirs = socket.socketpair()
    argv = [sys.executable, "-P", "-m", "electctl.lab.keeper", wanted.to_json()]
    # The password of the user's own backend, which would be tried on the lab's servers.
    env = {name: value for name, value in os.environ.items() if name != "ELECTCTL_PASSWORD"}
    keeper: subprocess.Popen[bytes] | None = None
    kept = False
    try:
        with theirs:
            keeper = subprocess.Popen(argv, stdin=theirs.fileno(), env=env, start_new_session=True)
        news = _first_word(ours, _Patience(f"still starting {wanted.scheme}", say))
        if not news:
            raise Unreachable(
                f"the keeper of lab {wanted.name} ended before its servers answered",
                hint=f"its log is {LabDir.named(wanted.name).log}",
            )
        for line in str(news.get("log", "")).splitlines():
            say(f"log: {line}")
        control.raise_error(news)
        if news["state"] == "busy":
            return None
        ours.sendall(KEEP)
        kept = True
        return news
    finally:
        ours.close()
        if keeper is not None and not kept:
            # It sees our end of the socket closed, and takes everything down.
            keeper.wait(END_TIMEOUT)


def _first_word(ours: socket.socket, waiting: _Patience) -> dict[str, Any]:
    while True:
        ours.settimeout(waiting.left())
        try:
            return control.receive(ours)
        except TimeoutError:
            waiting.step()


def down(lab: LabDir, *, keep_data: bool, say: Say) -> dict[str, Any]:
    """End a lab, be it half up or hung, and remove its data unless told to keep it.

    Raises Unreachable if its keeper cannot be ended.
    """
    record = lab.read() or Record(lab.name, "", 0, False, "")
    waiting = _Patience(f"still stopping lab {lab.name}", say)
    deadline = now() + END_TIMEOUT
    ending = False
    while (held := lab.hold()) is None:
        try:
            # A keeper that is still starting servers does not listen yet: it is asked again.
            ending = ending or bool(control.ask(lab, {"do": "down", "keep_data": keep_data}))
        except Unreachable:
            ending = _kill_keeper(lab, say)
        if now() >= deadline:
            raise Unreachable(
                f"the keeper of lab {lab.name} does not end",
                hint=f"end the process that has {lab.path / 'lock'} open",
            )
        waiting.step()
        time.sleep(POLL)
    if keep_data:
        held.release()
    else:
        held.remove()
    state = "stopped" if keep_data else "removed"
    return {**asdict(record), "state": state, "servers": []}


def _kill_keeper(lab: LabDir, say: Say) -> bool:
    """SIGKILL a keeper that does not answer; its servers die with it."""
    pid = control.keeper_pid(lab)
    if pid is not None:
        say(f"the keeper of lab {lab.name} does not answer: killing it and its servers")
        os.kill(pid, signal.SIGKILL)
    return pid is not None


def link(lab: LabDir, question: dict[str, Any]) -> dict[str, Any]:
    """Tell a lab's proxies what to do; its status then. Raises UsageError if it is not up."""
    answer = control.ask(lab, {"do": "link", **question})
    if answer is None:
        raise UsageError(f"lab {lab.name} is not up", hint="electctl lab status lists the labs")
    return answer


def find(name: str) -> LabDir:
    """The lab of that name. Raises UsageError, with the nearest name, if there is none."""
    lab = LabDir.named(name)
    if not lab.path.is_dir():
        there = [other.name for other in LabDir.all()]
        near = get_close_matches(name, there, 1)
        hint = f"did you mean {near[0]}?" if near else "electctl lab status lists the labs"
        raise UsageError(f"there is no lab {name}", hint=hint)
    return lab


def only(what_for: str) -> LabDir:
    """The one lab there is. Raises UsageError if there is none, or several."""
    there = LabDir.all()
    if not there:
        raise UsageError("there is no lab", hint="electctl lab up redis starts one")
    if len(there) > 1:
        raise UsageError(
            f"there are several labs: {', '.join(lab.name for lab in there)}",
            hint=f"name the one {what_for}",
        )
    return there[0]


class _Patience:
    """Says that something takes its time: after 2 s, and every 10 s from then on."""

    def __init__(self, text: str, say: Say) -> None:
        self._text = text
        self._say = say
        self._began = now()
        self._due = self._times()
        self._next = next(self._due)

    def _times(self) -> Iterator[float]:
        first, later = PATIENCE
        at = self._began + first
        while True:
            yield at
            at += later

    def left(self) -> float:
        """Seconds until the next word is due."""
        return max(0.001, self._next - now())

    def step(self) -> None:
        """Say it, if it is due."""
        if now() >= self._next:
            self._next = next(self._due)
            self._say(f"{self._text} ({now() - self._began:.0f} s)")
