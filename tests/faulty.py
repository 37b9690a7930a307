"""A leader that faults are done to: a real leadership, and a tree of real processes."""

from __future__ import annotations

import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from electctl.core.elector import connect
from electctl.core.leadership import Leadership
from electctl.faults import library, processes
from electctl.faults.fault import Fault, Injected, NotInjected, Scene
from electctl.lab.cluster import Cluster
from electctl.lab.proxy import Proxy
from electctl.lab.server import tree
from tests.processes import wait_for

TTL = 6.0
#: Seconds that a store may take to serve again.
AGAIN = 60.0
#: Done to the leader's processes alone: tests/test_faults.py has them, whatever the scheme.
OF_PROCESSES = ("crash:electctl", "crash:tree", "pause:electctl", "pause:tree", "gc")


class Tree:
    """A process in the place of electctl, and one below it in the place of its command."""

    name = "a"

    def __init__(self) -> None:
        self._root = subprocess.Popen(
            ["sh", "-c", "sleep 1000 & wait"], stdin=subprocess.DEVNULL, start_new_session=True
        )
        self.pid = self._root.pid
        wait_for(lambda: len(tree(self.pid)) == 2, what="both run")
        self._known = self.tree()

    @property
    def ended(self) -> bool:
        return self._root.poll() is not None

    def tree(self) -> list[int]:
        return tree(self.pid)

    def command_pids(self) -> list[int]:
        return self.tree()[1:]

    def end(self) -> None:
        processes.send(self._known, signal.SIGKILL)
        self._root.wait()


@contextmanager
def led(cluster: Cluster, fault: Fault, ttl: float = TTL) -> Iterator[tuple[Scene, Leadership]]:
    """Somebody leads an election by way of proxies, and the fault's copy is taken before."""
    with ExitStack() as stack:
        stack.enter_context(fault.before(cluster))
        links = {
            place: stack.enter_context(Proxy(cluster.entrances[place].address))
            for place in library.entrances(fault, cluster)[0]
        }
        leader = Tree()
        stack.callback(leader.end)
        url = cluster.url_for([link.address for link in links.values()])
        elector = stack.enter_context(connect(url))
        election = f"faults-{secrets.token_hex(4)}"
        leadership = stack.enter_context(elector.campaign(election, "a", ttl=ttl, wait=AGAIN))
        yield Scene(leader, cluster, links, election, ttl), leadership


@contextmanager
def injected(
    cluster: Cluster, name: str, ttl: float = TTL
) -> Iterator[tuple[Injected, Scene, Leadership]]:
    """A fault that has taken hold; undone when left, and the store then serves again."""
    fault = library.find(name)
    with led(cluster, fault, ttl) as (scene, leadership), fault.inject(scene) as done:
        assert done.target
        assert any(letter.isdigit() for letter in done.confirmed)
        yield done, scene, leadership
    serves(cluster)


def not_injected(cluster: Cluster, name: str, match: str) -> None:
    """A fault that nothing was prepared for is not taken for done, and its leader is unharmed."""
    with led(cluster, library.find("gc")) as (scene, _):
        with pytest.raises(NotInjected, match=match):
            library.find(name).inject(scene).__enter__()
        assert not scene.leader.ended


def serves(cluster: Cluster) -> None:
    """Somebody can be elected."""
    election = f"after-{secrets.token_hex(4)}"
    with connect(cluster.url) as elector, elector.campaign(election, "z", ttl=TTL, wait=AGAIN):
        pass


def of_store(scheme: str, nodes: int) -> list[str]:
    """The names of the faults that the scheme's own servers or links are needed for."""
    names = [fault.name for fault in library.applicable(scheme, nodes)]
    assert not {*OF_PROCESSES} - {*names}
    return [name for name in names if name not in OF_PROCESSES]
