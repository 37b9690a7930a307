"""The keeper's socket: one JSON object asks, one answers, a line each, a connection each.

What this does not guarantee: that a keeper which took a question acts on it; silence is raised as
Unreachable. Who may ask is decided by the mode of the lab's directory (0700).
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from typing import Any

from electctl import errors
from electctl.base.unix_socket import connect, peer_pid, short_path
from electctl.errors import ElectctlError, Unreachable
from electctl.lab.state import LabDir, as_object

#: Above what one look at all servers takes (electctl.lab.server.TRY_TIMEOUT).
ANSWER_TIMEOUT = 6.0
_QUESTION_TIMEOUT = 5.0
_LIMIT = 1 << 20


def listen(lab: LabDir) -> socket.socket:
    """The keeper's end."""
    listener = socket.socket(socket.AF_UNIX)
    (lab.path / "control").unlink(missing_ok=True)
    with short_path(lab.path / "control") as path:
        listener.bind(path)
    listener.listen(16)
    return listener


def ask(lab: LabDir, question: dict[str, Any]) -> dict[str, Any] | None:
    """The keeper's answer; None if nobody listens.

    Raises Unreachable if it does not answer in time, and whatever error it answered with.
    """
    try:
        with connect(lab.path / "control", ANSWER_TIMEOUT) as sock:
            send(sock, question)
            answer = receive(sock)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        return None
    except OSError as error:
        raise Unreachable(
            f"the keeper of lab {lab.name} does not answer",
            hint=f"electctl lab down {lab.name} ends it all the same",
        ) from error
    if not answer:
        return None  # it ended while we asked
    raise_error(answer)
    return answer


def keeper_pid(lab: LabDir) -> int | None:
    """The process that listens, by the kernel's word (SO_PEERCRED, unix(7)); None if none does."""
    try:
        with connect(lab.path / "control", _QUESTION_TIMEOUT) as sock:
            return peer_pid(sock)
    except OSError:
        return None


def send(sock: socket.socket, message: dict[str, Any]) -> None:
    """One object as one line."""
    sock.sendall(json.dumps(message).encode() + b"\n")


def receive(sock: socket.socket) -> dict[str, Any]:
    """One object; empty at the end of the stream. Raises OSError (time-out, reset)."""
    got = b""
    while not got.endswith(b"\n") and len(got) < _LIMIT:
        chunk = sock.recv(65536)
        if not chunk:
            break
        got += chunk
    return as_object(got)


def accept(listener: socket.socket, timeout: float) -> tuple[socket.socket, dict[str, Any]] | None:
    """The next question and the connection to answer on; None after ``timeout`` seconds."""
    listener.settimeout(timeout)
    try:
        sock, _ = listener.accept()
    except TimeoutError:
        return None
    sock.settimeout(_QUESTION_TIMEOUT)
    try:
        return sock, receive(sock)
    except OSError:
        sock.close()
        return None


def answer(sock: socket.socket, message: dict[str, Any]) -> None:
    """Answer and hang up; somebody who no longer listens is none of our business."""
    with sock, suppress(OSError):
        send(sock, message)


def error_message(error: ElectctlError) -> dict[str, Any]:
    """An error, to be raised again by :func:`raise_error` in another process.

    Its class becomes the nearest one of :mod:`electctl.errors`.
    """
    kind = next(c for c in type(error).__mro__ if c.__module__ == errors.__name__)
    return {"error": kind.__name__, "message": error.message, "hint": error.hint}


def raise_error(message: dict[str, Any]) -> None:
    """Raise the error that ``message`` holds, if it holds one."""
    if "error" in message:
        kind = getattr(errors, str(message["error"]), ElectctlError)
        raise kind(message["message"], hint=message["hint"])
