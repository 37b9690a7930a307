"""What a checkpoint znode holds: whose value it is, its number, and the value.

What this does not guarantee: that a value written past electctl can be read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from electctl.errors import ConfigError, UsageError

#: ZooKeeper refuses a request of 1,048,575 bytes and more (jute.maxbuffer) by hanging up.
MAX_VALUE = 1_000_000
_HEADER = re.compile(rb"electctl (-?\d+) (\d+)\n")


@dataclass(frozen=True, slots=True)
class Record:
    """A value, the token of the grant under which it was written, and its number there."""

    token: int
    seq: int
    value: bytes

    def pack(self) -> bytes:
        """The znode's data. Raises UsageError if the value is too large."""
        if len(self.value) > MAX_VALUE:
            raise UsageError(
                f"the checkpoint has {len(self.value)} bytes; ZooKeeper takes {MAX_VALUE}",
                hint="store it elsewhere and checkpoint where it is",
            )
        return b"electctl %d %d\n" % (self.token, self.seq) + self.value

    @classmethod
    def unpack(cls, data: bytes, path: str) -> Self:
        """Read a znode's data. Raises ConfigError if electctl did not write it."""
        header = _HEADER.match(data)
        if header is None:
            raise ConfigError(
                f"the znode {path} holds no checkpoint of electctl", hint="delete it, or rename"
            )
        return cls(int(header[1]), int(header[2]), data[header.end() :])
