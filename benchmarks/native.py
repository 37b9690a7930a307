"""A native client's own lock, held until SIGTERM: a yardstick in a process of its own.

    native.py redis-py|kazoo HOST:PORT,… NAME TTL

Prints ``waiting`` before it asks for the lock and ``held`` once it has it.
"""

from __future__ import annotations

import signal
import sys
from typing import NoReturn


def _end(number: int, frame: object) -> NoReturn:
    sys.exit(0)


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def redis_py(hosts: str, name: str, ttl: float) -> None:
    """redis-py's ``Lock``: it polls, and does not renew."""
    import redis

    host, _, port = hosts.partition(":")
    _say("waiting")
    with redis.Redis(host, int(port)).lock(name, timeout=ttl):
        _say("held")
        signal.pause()


def kazoo(hosts: str, name: str, ttl: float) -> None:
    """kazoo's ``Lock``, which its ``Election`` is made of."""
    from kazoo.client import KazooClient

    client = KazooClient(hosts=hosts, timeout=ttl)
    client.start(timeout=30)
    try:
        _say("waiting")
        with client.Lock(f"/{name}"):
            _say("held")
            signal.pause()
    finally:
        client.stop()


def main() -> None:
    tool, hosts, name, ttl = sys.argv[1:]
    signal.signal(signal.SIGTERM, _end)
    {"redis-py": redis_py, "kazoo": kazoo}[tool](hosts, name, float(ttl))


if __name__ == "__main__":
    main()
