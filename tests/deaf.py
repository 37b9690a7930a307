"""A host whose resolver never answers: run as a script, under ``unshare -rmn``, with a command.

Its one name server is a socket of ours that reads nothing, and its network has no other host.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def main() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        fcntl.ioctl(deaf, _SIOCSIFFLAGS, struct.pack("16sH", b"lo", _IFF_UP))
        deaf.bind(("127.0.0.1", 53))
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder, "resolv.conf")
            config.write_text("nameserver 127.0.0.1\noptions timeout:10 attempts:3\n")
            mount = ["mount", "--bind", str(config), os.path.realpath("/etc/resolv.conf")]
            subprocess.run(mount, check=True)
            command = subprocess.Popen(sys.argv[1:])
            signal.signal(signal.SIGTERM, lambda *_: command.terminate())
            code = command.wait()
            subprocess.run(["umount", mount[-1]], check=True)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
