"""What is done to the leader's own ways to the store; counted by the proxies on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from electctl.base.clock import now
from electctl.faults.fault import Injected, Scene
from electctl.faults.watching import DEADLINE, until
from electctl.lab.cluster import Cluster
from electctl.lab.proxy import Directions, Proxy, Traffic

#: In TTLs: how much later replies arrive.
LATER = 1.5


def proxied(cluster: Cluster) -> str | None:
    """Why the leader cannot be cut off from the store."""
    return None if cluster.proxyable else "clients also connect to servers past our proxies"


def cut(direction: Directions) -> Callable[[Scene], AbstractContextManager[Injected]]:
    """The leader's connections stay open, and one direction or both carry nothing any more."""

    @contextmanager
    def inject(scene: Scene) -> Iterator[Injected]:
        proxies = list(scene.links.values())
        before = _swallowed(proxies, direction)
        at = now()
        try:
            for proxy in proxies:
                proxy.swallow(direction)
            until(
                lambda: _swallowed(proxies, direction) > before,
                "nothing was sent that could be lost",
                scene.ttl + DEADLINE,
            )
            lost = _swallowed(proxies, direction) - before
            what = "bytes" if direction == "both" else f"bytes of {direction}"
            yield Injected(f"the links of {scene.leader.name}", f"{lost} {what} were lost", at)
        finally:
            for proxy in proxies:
                proxy.forward()

    return inject


@contextmanager
def slow(scene: Scene) -> Iterator[Injected]:
    """Replies arrive later by more than a TTL."""
    proxies = list(scene.links.values())
    late = LATER * scene.ttl
    at = now()
    try:
        for proxy in proxies:
            proxy.delay(late, direction="replies")
        until(
            lambda: any(proxy.counters.replies.held for proxy in proxies),
            "there was no reply that could be delayed",
            scene.ttl + DEADLINE,
        )
        held = sum(proxy.counters.replies.held for proxy in proxies)
        yield Injected(
            f"the links of {scene.leader.name}",
            f"{held} bytes of replies are on their way, for {late:.1f} s",
            at,
        )
    finally:
        for proxy in proxies:
            proxy.forward()


def _swallowed(proxies: list[Proxy], direction: Directions) -> int:
    total = 0
    for proxy in proxies:
        counters = proxy.counters
        both: dict[str, Traffic] = {"requests": counters.requests, "replies": counters.replies}
        total += sum(each.swallowed for name, each in both.items() if direction in (name, "both"))
    return total
