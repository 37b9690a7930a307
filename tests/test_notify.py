"""sd_notify(3) on a real datagram socket: what a service manager hears, and what never hurts."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from electctl.campaign.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """What NOTIFY_SOCKET says, and the socket that it names."""
    name = f"electctl-{os.urandom(4).hex()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(10)
        if request.param == "path":
            listener.bind(str(tmp_path / name))
            yield str(tmp_path / name), listener
        else:
            listener.bind("\0" + name)
            yield "@" + name, listener


def test_what_a_manager_hears(manager: tuple[str, socket.socket]) -> None:
    address, listener = manager
    notifier = Notifier.from_environ({"NOTIFY_SOCKET": address})
    assert notifier is not None
    notifier.status("waiting, 'a' leads\nREADY=1")
    notifier.ready("leading, token 7")
    notifier.ping()
    notifier.stopping()
    notifier.close()
    assert [listener.recv(4096) for _ in range(4)] == [
        b"STATUS=waiting, 'a' leads READY=1",  # one line: nothing in it is taken for a message
        b"READY=1\nSTATUS=leading, token 7",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]


@pytest.mark.parametrize(
    "environ",
    [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "relative"}, {"NOTIFY_SOCKET": "vsock:2:1234"}],
)
def test_nobody_is_told_where_there_is_no_manager(environ: dict[str, str]) -> None:
    assert Notifier.from_environ(environ) is None


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_must(
    environ: dict[str, str], interval: float | None
) -> None:
    notifier = Notifier.from_environ({"NOTIFY_SOCKET": "/nowhere", **environ})
    assert notifier is not None
    assert notifier.watchdog_interval == interval
    notifier.close()


def test_a_manager_that_is_gone_or_does_not_read_holds_nobody_up(
    manager: tuple[str, socket.socket],
) -> None:
    address, listener = manager
    notifier = Notifier.from_environ({"NOTIFY_SOCKET": address})
    assert notifier is not None
    began = time.monotonic()
    for _ in range(1000):
        notifier.status("x" * 1000)  # far more than it has room for
    listener.close()
    notifier.ping()
    assert time.monotonic() - began < 5
    notifier.close()
    too_long = Notifier.from_environ({"NOTIFY_SOCKET": "/" + "x" * 200})
    assert too_long is not None
    too_long.ping()
    too_long.close()
