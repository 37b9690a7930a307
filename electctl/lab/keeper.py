"""The process that keeps one lab up: the parent of its servers, the home of its proxies.

Started by :func:`electctl.lab.labs.up`, in a session of its own; reads one Record as its argument
and talks to its maker over its standard input, a socket. Until the maker says that it has the news,
its death undoes everything, so an ``electctl lab up`` that is killed leaves nothing behind.

What this does not guarantee: that servers survive it. They die with it, on purpose (see
:mod:`electctl.lab.tether`): nothing is left that nobody knows of. It ends by itself when its
directory is removed.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from difflib import get_close_matches
from types import FrameType
from typing import Any, NoReturn

from electctl.contract.url import BackendURL
from electctl.errors import ElectctlError, Unsupported, UsageError
from electctl.lab import control
from electctl.lab.cluster import Cluster, make_cluster
from electctl.lab.proxy import Proxy
from electctl.lab.server import Server, StartFailed
from electctl.lab.state import Hold, LabDir, Record

#: How often it looks whether its directory is still there, in seconds.
LOOK = 1.0
KEEP = b"keep\n"


class Stop(BaseException):
    """A signal told us to end. Not an Exception: nothing on the way may take it for a failure."""


class Lab:
    """A running lab: servers, proxies, and what is answered about them."""

    def __init__(self, record: Record, cluster: Cluster, proxies: dict[str, Proxy]) -> None:
        self.record = record
        self.cluster = cluster
        self.proxies = proxies

    def status(self) -> dict[str, Any]:
        """What ``electctl lab status --json`` prints of it."""
        with ThreadPoolExecutor(len(self.cluster.servers)) as pool:
            servers = list(pool.map(self._server, self.cluster.servers))
        return {**asdict(self.record), "state": "up", "servers": servers}

    def _server(self, server: Server) -> dict[str, Any]:
        silence = server.why_silent()
        proxy = self.proxies.get(server.name)
        return {
            "name": server.name,
            "pid": server.pid,
            "address": _text(server.address),
            "alive": server.alive,
            "paused": server.alive and server.paused,
            "answering": not silence,
            "silence": silence or None,
            "log": str(server.log),
            "proxy": None
            if proxy is None
            else {"address": _text(proxy.address), "mode": proxy.mode, **asdict(proxy.counters)},
        }

    def link(self, question: dict[str, Any]) -> None:
        """Change what the proxies do. Raises UsageError or Unsupported."""
        if not self.proxies:
            raise Unsupported(
                f"lab {self.record.name} has no proxies",
                hint=f"electctl lab up {self.record.scheme} --proxy, under another --name",
            )
        for proxy in self._chosen(question.get("server")):
            match question:
                case {"mode": "forward"}:
                    proxy.forward()
                case {"mode": "cut"}:
                    proxy.cut()
                case {"mode": "swallow", "direction": direction}:
                    proxy.swallow(direction)
                case {"mode": "hold", "direction": direction}:
                    proxy.hold(direction)
                case {"mode": "delay", "direction": direction, "delay": float(seconds)}:
                    proxy.delay(seconds, direction=direction)
                case _:
                    raise _not_understood(question.get("mode"))

    def _chosen(self, name: str | None) -> list[Proxy]:
        if name is None:
            return list(self.proxies.values())
        if name not in self.proxies:
            near = get_close_matches(name, self.proxies, 1)
            hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(self.proxies)}"
            raise UsageError(f"lab {self.record.name} has no link to {name!r}", hint=hint)
        return [self.proxies[name]]


def _text(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


class Keeper:
    """Brings one lab up, keeps it, and takes it down."""

    def __init__(self, hold: Hold, record: Record, maker: socket.socket) -> None:
        self.hold = hold
        self.record = record
        self.maker = maker
        self.kept = threading.Event()
        self.fresh = not hold.lab.data.exists()

    def run(self) -> None:
        """The whole life of the lab."""
        news: dict[str, Any] = {}
        remove = False
        try:
            with ExitStack() as stack:
                lab = self._start(stack)
                # Before the maker is told: it may ask the next moment.
                listener = stack.enter_context(control.listen(self.hold.lab))
                self._tell_maker(lab.status())
                remove = self._serve(lab, listener)
        except Stop:
            remove = self.fresh and not self.kept.is_set()
        except ElectctlError as error:
            remove = self.fresh
            news = control.error_message(error)
            if isinstance(error, StartFailed):
                news["log"] = error.log
                if remove:
                    news["hint"] = "the last lines of its log are above"
        # Told last: who hears of a failure finds nothing left of it.
        self._leave(remove)
        if news:
            self._tell_maker(news)

    def _serve(self, lab: Lab, listener: socket.socket) -> bool:
        """Answer until told to end; whether the data is to go too."""
        while self.hold.is_current():
            asked = control.accept(listener, LOOK)
            if asked is None:
                continue
            sock, question = asked
            if question.get("do") == "down":
                # Who asked waits for the lock, which is let go of when all is over.
                control.answer(sock, {"state": "stopping"})
                return question.get("keep_data") is False
            control.answer(sock, _reply(lab, question))
        return False

    def _leave(self, remove: bool) -> None:
        if remove:
            self.hold.remove()
        else:
            (self.hold.lab.path / "control").unlink(missing_ok=True)
            self.hold.release()

    def _tell_maker(self, news: dict[str, Any]) -> None:
        # A maker that has gone is seen by the thread that watches it.
        with suppress(OSError):
            control.send(self.maker, news)

    def _start(self, stack: ExitStack) -> Lab:
        directory = self.hold.lab
        directory.write(self.record)
        threading.Thread(target=self._watch_maker, daemon=True).start()
        cluster = make_cluster(self.record.scheme, directory.data, self.record.nodes)
        stack.enter_context(cluster)
        proxies: dict[str, Proxy] = {}
        if self.record.proxied:
            for server in cluster.entrances:
                port = cluster.port(f"{server.name}-proxy")
                proxies[server.name] = stack.enter_context(Proxy(server.address, port=port))
        url = cluster.url
        if proxies:
            url = cluster.url_for([proxy.address for proxy in proxies.values()])
        record = replace(self.record, url=url, masked=BackendURL.parse(url).masked())
        directory.write(record)
        return Lab(record, cluster, proxies)

    def _watch_maker(self) -> None:
        """End with the maker, unless it has said that the lab is to be kept."""
        try:
            told = self.maker.recv(len(KEEP))
        except ConnectionResetError:
            told = b""
        if told == KEEP:
            self.kept.set()
        else:
            os.kill(os.getpid(), signal.SIGTERM)


def _reply(lab: Lab, question: dict[str, Any]) -> dict[str, Any]:
    try:
        match question.get("do"):
            case "status":
                return lab.status()
            case "link":
                lab.link(question)
                return lab.status()
            case other:
                raise _not_understood(other)
    except ElectctlError as error:
        return control.error_message(error)


def _not_understood(what: object) -> UsageError:
    return UsageError(
        f"the lab's keeper does not understand {what!r}",
        hint="another version of electctl brought it up: take it down, and up again",
    )


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    for ended in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ended, signal.SIG_IGN)
    raise Stop


def main() -> None:
    """``python -m electctl.lab.keeper RECORD``, standard input a socket to the maker."""
    os.umask(0o077)
    maker = socket.socket(fileno=os.dup(0))
    record = Record.from_json(sys.argv[1])
    try:
        hold = LabDir.named(record.name).hold()
    except ElectctlError as error:
        control.send(maker, control.error_message(error))
        return
    if hold is None:
        control.send(maker, {"state": "busy"})
        return
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(hold.lab.log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    for fd, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(fd, target)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    Keeper(hold, record, maker).run()


if __name__ == "__main__":
    main()
