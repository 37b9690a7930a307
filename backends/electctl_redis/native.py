"""redis-py's own Lock as a candidate of a drill: ``python -m electctl_redis.native``.

The lock is taken, kept by ``reacquire()`` three times a TTL, and given back, as the documentation
of redis.lock.Lock shows. The command is told to end when that finds the lock lost.

What this does not guarantee: that the command ends in time: ``reacquire()`` may find the loss late,
or hang. redis-py has no token.
"""

from __future__ import annotations

import subprocess
import sys

from electctl.contract.backend import Native, NativeRun
from electctl.errors import UsageError


def lock(asked: Native) -> NativeRun:
    """A program with that lock."""
    url = asked.url
    if url.scheme != "redis" or len(url.hosts) != 1 or url.user or url.password:
        raise UsageError(
            "the drill of a native tool takes a redis:// URL without a login", hint="redis://host"
        )
    host, port = url.hosts[0]
    server = f"redis://{host}:{port or 6379}/{url.path or 0}"
    argv = [sys.executable, "-P", "-m", "electctl_redis.native", server, asked.election]
    return NativeRun([*argv, f"{asked.ttl:g}", *asked.command], {})


def main() -> int:
    """``native.py URL NAME TTL COMMAND...``"""
    import redis
    from redis.exceptions import LockError

    url, name, ttl, *command = sys.argv[1:]
    held = redis.Redis.from_url(url).lock(name, timeout=float(ttl), sleep=0.05)
    held.acquire()
    with subprocess.Popen(command) as process:
        while True:
            try:
                process.wait(float(ttl) / 3)
                break
            except subprocess.TimeoutExpired:
                pass
            try:
                held.reacquire()
            except LockError:
                process.terminate()
                return 79
    held.release()
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
