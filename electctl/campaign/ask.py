"""The command's side of the socket that its campaign answers on: ``check`` and ``checkpoint``.

What this does not guarantee: that the answer is still true when it is read. ``remaining_ms`` says
for how long it was, counted when the campaign answered; the fencing token covers the rest.

Imports little, on purpose: scripts call ``electctl check`` in their loops.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from electctl.base import unix_socket
from electctl.base.clock import now
from electctl.errors import (
    ElectctlError,
    Inconclusive,
    LeadershipLost,
    UsageError,
)

#: The variable that names the socket.
SOCKET = "ELECTCTL_SOCKET"
#: Seconds in which a campaign that runs answers a check.
CHECK_LIMIT = 1.0
_PAUSE = 0.01
#: Seconds after which the outcome of a checkpoint counts as unknown.
CHECKPOINT_LIMIT = 30.0
#: The largest value of a checkpoint, in bytes.
MAX_VALUE = 1 << 20
#: The longest line of the protocol: such a value in base64, and some room.
MAX_LINE = MAX_VALUE * 4 // 3 + 4096


def check_main(*, as_json: bool = False, quiet: bool = False) -> int:
    """Print whether we lead; 0 if so, 1 if not. Raises UsageError and Inconclusive (3)."""
    outside = "inside: electctl campaign ELECTION -- COMMAND; anywhere: electctl check ELECTION"
    answer = _ask({"do": "check"}, CHECK_LIMIT, outside)
    if as_json:
        text = json.dumps(answer)
    elif answer["leading"]:
        text = f"leading, {answer['remaining_ms']} ms left"
    else:
        text = "not leading"
    if as_json or not quiet:
        sys.stdout.write(text + "\n")
    return 0 if answer["leading"] else 1


def set_checkpoint(value: bytes) -> None:
    """Write the guarded checkpoint under the campaign's grant.

    Raises LeadershipLost (nothing was written), Inconclusive (it may or may not be written),
    UsageError (no checkpoints in this scheme, too long, not under a campaign).
    """
    if len(value) > MAX_VALUE:
        raise UsageError(
            f"the value has {len(value)} bytes; {MAX_VALUE} are allowed",
            hint="store it elsewhere, and its name here",
        )
    _ask({"do": "set", "value": base64.b64encode(value).decode()}, CHECKPOINT_LIMIT)


def get_checkpoint() -> bytes | None:
    """The checkpoint's last value; None if there is none."""
    value = _ask({"do": "get"}, CHECKPOINT_LIMIT)["value"]
    return None if value is None else base64.b64decode(value)


def _ask(
    request: dict[str, str],
    limit: float,
    outside: str = "it works inside: electctl campaign ELECTION -- COMMAND",
) -> dict[str, Any]:
    """The campaign's answer; ``outside`` is the hint where there is no campaign."""
    path = os.environ.get(SOCKET)
    if not path:
        raise UsageError(
            f"this is not a campaign's command: {SOCKET} is not set",
            hint=outside,
        )
    try:
        with _connect(Path(path), now() + limit) as asking:
            asking.settimeout(limit)
            asking.sendall(json.dumps(request).encode() + b"\n")
            line = _read_line(asking)
    except TimeoutError:
        raise Inconclusive(
            f"the campaign did not answer within {limit:g} s",
            hint="is the electctl process stopped? Trust nothing that you cannot check",
        ) from None
    except OSError as error:
        raise Inconclusive(
            f"the campaign cannot be asked: {error.strerror or error}",
            hint="it has ended, or was killed: stop acting as the leader",
        ) from None
    return _understand(line)


def _connect(path: Path, until: float) -> socket.socket:
    while True:
        try:
            return unix_socket.connect(path, max(0.001, until - now()))
        except BlockingIOError:
            # So many ask at once that the kernel keeps no more of them: our turn comes.
            if now() >= until:
                raise TimeoutError from None
            time.sleep(_PAUSE)


def _read_line(asking: socket.socket) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        chunk = asking.recv(65536)
        if not chunk:
            raise ConnectionResetError("it closed the connection")
        line += chunk
    return bytes(line)


def _understand(line: bytes) -> dict[str, Any]:
    answer = json.loads(line)
    if "error" not in answer:
        return dict(answer)
    error, code = answer["error"], answer["error"]["exit_code"]
    kinds: tuple[type[ElectctlError], ...] = (UsageError, Inconclusive, LeadershipLost)
    kind = next((kind for kind in kinds if kind.exit_code == code), Inconclusive)
    raise kind(error["message"], hint=error["hint"])
