"""The socket on which a campaign answers its command: ``check`` and ``checkpoint``.

What this does not guarantee: that only the command asks. Whoever runs as the same user and knows
the path can; the path is in a directory of mode 0700 and has mode 0600 itself.

The protocol is one JSON object a line each way, one request a connection. Each connection has a
thread of its own, so that one that is slow, or waits for the store, keeps nobody else waiting.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from electctl.campaign.ask import MAX_LINE, MAX_VALUE
from electctl.errors import ElectctlError, Inconclusive, UsageError

if TYPE_CHECKING:
    from electctl.leadership import Leadership

#: Connections at once; more are closed unanswered.
MAX_CONNECTIONS = 64
#: Seconds that a client may take over its request, and over reading the answer.
PATIENCE = 10.0
#: The longest path of a unix socket that every system takes, in bytes.
_MAX_PATH = 100
_NAME = "socket"


class Desk:
    """Answers for one term, until :meth:`close`, in ``home``, which it makes and removes.

    Raises OSError if the socket cannot be made.
    """

    def __init__(self, home: Path) -> None:
        #: Set when elected; nobody who could ask runs before that.
        self.leadership: Leadership | None = None
        self._home = home
        self.path = home / _NAME
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            home.mkdir(mode=0o700)
            self._listener.bind(str(self.path))
            self.path.chmod(0o600)
            self._listener.listen(MAX_CONNECTIONS)
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._accept, name="electctl-desk", daemon=True).start()

    def close(self) -> None:
        """Answer no more, and remove the socket. Idempotent."""
        # Unlike close(2) alone, this wakes the thread that waits in accept(2).
        if self._listener.fileno() >= 0:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        shutil.rmtree(self._home, ignore_errors=True)

    def _accept(self) -> None:
        while True:
            try:
                asking, _ = self._listener.accept()
            except OSError:
                return
            if not self._slots.acquire(blocking=False):
                asking.close()
                continue
            threading.Thread(
                target=self._serve, args=(asking,), name="electctl-answer", daemon=True
            ).start()

    def _serve(self, asking: socket.socket) -> None:
        try:
            with asking:
                asking.settimeout(PATIENCE)
                with asking.makefile("rb") as stream:
                    line = stream.readline(MAX_LINE + 1)
                reply = self._reply(line)
                asking.sendall(json.dumps(reply).encode() + b"\n")
        except OSError:
            pass  # the client has gone, or takes too long: its own affair
        finally:
            self._slots.release()

    def _reply(self, line: bytes) -> dict[str, Any]:
        try:
            if len(line) > MAX_LINE:
                raise UsageError(
                    f"the request is longer than {MAX_LINE} bytes",
                    hint=f"a checkpoint holds at most {MAX_VALUE} bytes",
                )
            return self._obey(_parse(line))
        except ElectctlError as error:
            return {
                "error": {
                    "exit_code": error.exit_code,
                    "message": error.message,
                    "hint": error.hint,
                }
            }

    def _obey(self, request: dict[str, Any]) -> dict[str, Any]:
        leadership = self.leadership
        if leadership is None:
            raise Inconclusive("the campaign is not decided yet", hint="ask again once it is")
        match request:
            case {"do": "check"}:
                remaining = leadership.remaining()
                return {
                    "leading": remaining > 0,
                    "remaining_ms": int(remaining * 1000),
                    "token": leadership.token,
                }
            case {"do": "set", "value": str(text)}:
                leadership.checkpoint.set(_decode(text))
                return {}
            case {"do": "get"}:
                value = leadership.checkpoint.get()
                return {"value": None if value is None else base64.b64encode(value).decode()}
        raise UsageError("the request is none that this electctl knows", hint="check, set or get")


def new_home() -> Path:
    """A directory for a desk; nothing is there yet. Raises OSError where no file can be made."""
    name = f"electctl-{secrets.token_hex(4)}"
    home = Path(tempfile.gettempdir(), name)
    return home if len(os.fsencode(home / _NAME)) <= _MAX_PATH else Path("/tmp", name)


def _parse(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except ValueError:
        request = None
    if not isinstance(request, dict):
        raise UsageError("the request is not a JSON object", hint='{"do": "check"}')
    return request


def _decode(text: str) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError:
        raise UsageError("the value is not base64", hint="RFC 4648, section 4") from None
    if len(value) > MAX_VALUE:
        raise UsageError(
            f"the value has {len(value)} bytes; {MAX_VALUE} are allowed",
            hint="store it elsewhere, and its name here",
        )
    return value
