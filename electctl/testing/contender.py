"""A candidate in a process of its own, for the cases that need a real one.

Not a user interface. Reads one JSON object from stdin, leads that many terms, and prints a JSON
line when it has been elected and when it is about to release. While it leads it forks as many
children as it is told, each of which leaves in its own way and prints what it saw. If it is told
that they are ``alone``, each stops its parent first, and waits for a line from stdin.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys

from electctl.base.clock import now
from electctl.core.elector import LeaderElector, connect
from electctl.core.leadership import Leadership
from electctl.errors import ElectctlError, LeadershipLost


class Leave(Exception):
    """Ends a child that leaves by an error; nobody shows it."""


def main() -> None:
    """Lead ``terms`` terms of ``hold`` seconds each."""
    order = json.loads(sys.stdin.readline())
    sys.excepthook = lambda *_: None
    with connect(order["url"]) as elector:
        for _ in range(order["terms"]):
            _say("campaigning")
            with elector.campaign(
                order["election"], order["candidate"], ttl=order["ttl"]
            ) as leadership:
                _say(
                    "elected",
                    token=leadership.token,
                    receipt=leadership.receipt,
                    valid_until=leadership.valid_until,
                )
                for way in order["forks"]:
                    _fork(way, elector, leadership, alone=order["alone"])
                leadership.lost.wait(order["hold"])
                leadership.check()
                _say("stopped", token=leadership.token)


def _fork(way: str, elector: LeaderElector, leadership: Leadership, *, alone: bool) -> None:
    # Opened anew, because multiprocessing closes the stream of its children.
    stdin = os.dup(0)
    if way == "multiprocessing":
        child = multiprocessing.get_context("fork").Process(
            target=_child, args=("return", elector, leadership, stdin if alone else None)
        )
        child.start()
        child.join()
        code = child.exitcode
    else:
        pid = os.fork()
        if pid == 0:
            _child(way, elector, leadership, stdin if alone else None)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(stdin)
    _say("forked", way=way, code=code)


def _child(way: str, elector: LeaderElector, leadership: Leadership, word: int | None) -> None:
    if word is not None:
        os.kill(os.getppid(), signal.SIGSTOP)
        _say("alone", pid=os.getpid(), parent=os.getppid())
        os.read(word, 1)
    try:
        leadership.check()
        reason = ""
    except LeadershipLost as error:
        reason = error.reason
    _say(
        "child",
        way=way,
        reason=reason,
        remaining=leadership.remaining(),
        valid_until=leadership.valid_until,
        lost=leadership.lost.wait(30),
        receipt=leadership.receipt,
        write=_error_of(lambda: leadership.checkpoint.set(b"x")),
        renew=_error_of(lambda: leadership.candidacy.renew()),
        campaign=_error_of(lambda: elector.campaign(leadership.election, "child", wait=0)),
        view=_error_of(lambda: elector.holder(leadership.election)),
    )
    if way == "release":
        leadership.release()
        leadership.candidacy.cancel()
        leadership.candidacy.release()
        leadership.candidacy.close()
        elector.close()
    if way == "error":
        raise Leave
    if way != "return":
        sys.exit(0)


def _error_of(act: object) -> str:
    assert callable(act)
    try:
        act()
    except ElectctlError as error:
        return type(error).__name__
    return ""


def _say(event: str, **more: object) -> None:
    sys.stdout.write(json.dumps({"event": event, "at": now(), **more}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
