"""Checks that tell whether a server answers. Each takes the seconds that one try may last.

A check returns "" when the server answers, else why not; an OSError counts as its message. What an
answer does not show: that the server is a member of anything; a cluster checks that by itself.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable

from electctl.lab.ports import HOST

Check = Callable[[float], str]


def tcp(port: int) -> Check:
    """The port accepts a connection (also true of a stopped process, whose kernel accepts)."""

    def check(timeout: float) -> str:
        with socket.create_connection((HOST, port), timeout):
            return ""

    return check


def exchange(port: int, request: bytes, answer: bytes) -> Check:
    """After ``request`` the server's answer starts with ``answer``."""

    def check(timeout: float) -> str:
        got = b""
        with socket.create_connection((HOST, port), timeout) as sock:
            sock.settimeout(timeout)
            sock.sendall(request)
            while len(got) < len(answer):
                chunk = sock.recv(4096)
                if not chunk:
                    break
                got += chunk
        if got.startswith(answer):
            return ""
        return f"it answered {got[:80]!r}" if got else "it closed the connection"

    return check


def http_get(port: int, path: str = "/", *, status: int = 200) -> Check:
    """GET ``path`` is answered with ``status``."""

    def check(timeout: float) -> str:
        connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
        try:
            connection.request("GET", path)
            answered = connection.getresponse().status
        except http.client.HTTPException as error:
            return f"it does not speak HTTP: {error!r}"
        finally:
            connection.close()
        return "" if answered == status else f"GET {path} was answered with {answered}"

    return check
