"""What is done to the data in a store: lost, deleted, evicted, put back from an older copy.

Each is seen by a witness: a grant of an election of its own that the store had, and then has not.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from electctl.base.clock import now
from electctl.core.elector import connect
from electctl.errors import ElectctlError, Unreachable
from electctl.faults.fault import Injected, NotInjected, Scene
from electctl.faults.members import leading, led, separable
from electctl.faults.watching import DEADLINE, WHOLE_LIMIT, mend, until, witness
from electctl.lab.capable import Evicting, Flushable, Forgetful, Led, Replicated
from electctl.lab.cluster import Cluster


def flushable(cluster: Cluster) -> str | None:
    """Why nobody can delete everything."""
    return None if isinstance(cluster, Flushable) else "no command of its own deletes everything"


def evicting(cluster: Cluster) -> str | None:
    """Why it evicts nothing."""
    return None if isinstance(cluster, Evicting) else "it evicts nothing when it is out of memory"


def restartable(cluster: Cluster) -> str | None:
    """Why its leader cannot come back by itself."""
    if isinstance(cluster, Replicated):
        return "another is promoted before it is back; failover shows that"
    return led(cluster)


def replicated(cluster: Cluster) -> str | None:
    """Why no replica can be promoted that knows less."""
    if not isinstance(cluster, Replicated):
        return "it does not promote a replica that may know less"
    return separable(cluster)


@contextmanager
def flush(scene: Scene) -> Iterator[Injected]:
    """Everything in the store is deleted."""
    if not isinstance(scene.cluster, Flushable):
        raise NotInjected(flushable(scene.cluster) or "")
    with witness(scene.cluster) as stands:
        at = now()
        try:
            count = scene.cluster.flush()
        except Unreachable as error:
            raise NotInjected(error.message) from error
        until(lambda: stands() is False, "a grant is still there")
        yield Injected("the store", f"{count} entries were deleted, a fresh grant among them", at)


@contextmanager
def evict_force(scene: Scene) -> Iterator[Injected]:
    """The leader's grant is deleted, as by ``electctl evict --force``."""
    with connect(scene.cluster.url) as elector:
        at = now()
        try:
            evicted = elector.evict(scene.election, force=True)
            holder = elector.holder(scene.election)
        except ElectctlError as error:
            raise NotInjected(error.message) from error
        if evicted is None or (holder is not None and holder.key == evicted.key):
            raise NotInjected("nobody led" if evicted is None else "its grant is still there")
    yield Injected(
        f"the grant of {evicted.id}", f"the store has it no more (token {evicted.token})", at
    )


@contextmanager
def evict_memory(scene: Scene) -> Iterator[Injected]:
    """The store is out of memory, and throws the leader's grant away."""
    if not isinstance(scene.cluster, Evicting):
        raise NotInjected(evicting(scene.cluster) or "")
    at = now()
    with ExitStack() as stack:
        try:
            seen = stack.enter_context(scene.cluster.crowd_out(scene.election, DEADLINE))
        except Unreachable as error:
            raise NotInjected(error.message) from error
        yield Injected("the store", seen, at)


@contextmanager
def restart(scene: Scene) -> Iterator[Injected]:
    """The store's leader is killed, loses what may not have been on disk, and starts again."""
    cluster = scene.cluster
    assert isinstance(cluster, Led)
    number = leading(scene)
    server = cluster.members[number]
    with witness(cluster) as stands:
        before, at = server.pid, now()
        server.kill()
        forgets = isinstance(cluster, Forgetful)
        if isinstance(cluster, Forgetful):
            cluster.forget(number)
        mend(cluster)
        until(lambda: stands() is not None, "the store does not answer", WHOLE_LIMIT)
        if server.pid == before or stands() is forgets:
            raise NotInjected(f"{server.name} did not start again {_LOST[forgets]} its data")
        yield Injected(
            server.name, f"process {server.pid} came after {before}, {_LOST[forgets]} its data", at
        )


#: By whether the server forgets.
_LOST = {True: "without", False: "with"}


@contextmanager
def copied(cluster: Cluster) -> Iterator[None]:
    """A copy of all that the servers have stored is taken while they are stopped."""
    cluster.stop()
    try:
        try:
            shutil.copytree(cluster.home, _copy_of(cluster), symlinks=True)
        finally:
            mend(cluster)
        yield
    finally:
        shutil.rmtree(_copy_of(cluster))


def _copy_of(cluster: Cluster) -> Path:
    return cluster.home.with_name(f"{cluster.home.name}.copy")


@contextmanager
def restore(scene: Scene) -> Iterator[Injected]:
    """All servers are stopped, and put back from the copy."""
    cluster = scene.cluster
    copy = _copy_of(cluster)
    if not copy.exists():
        raise NotInjected("there is no older copy of the store")
    with witness(cluster) as stands:
        at = now()
        for server in cluster.servers:
            server.kill()
        shutil.rmtree(cluster.home)
        shutil.copytree(copy, cluster.home, symlinks=True)
        mend(cluster)
        until(lambda: stands() is not None, "the store does not answer", WHOLE_LIMIT)
        took = now() - at
        if stands():
            raise NotInjected("a grant that is younger than the copy is still there")
        yield Injected("the store", f"{took:.1f} s later it is back, without a younger grant", at)


@contextmanager
def unreplicated(cluster: Cluster) -> Iterator[None]:
    """From now on nothing that the primary takes reaches a replica."""
    if not isinstance(cluster, Replicated) or not cluster.breakable:
        raise NotInjected(replicated(cluster) or "")
    try:
        cluster.part_replicas()
        yield
    finally:
        cluster.ways.heal()
        mend(cluster)


@contextmanager
def failover(scene: Scene) -> Iterator[Injected]:
    """The primary is killed; another, which knows less, is promoted."""
    cluster = scene.cluster
    assert isinstance(cluster, Replicated)
    number = leading(scene)
    lost = cluster.members[number]

    def promoted() -> bool:
        try:
            successor = cluster.leading()
            return successor != number and cluster.role(successor) == "primary"
        except (Unreachable, LookupError):
            return False

    with witness(scene.cluster) as stands:
        at = now()
        lost.kill()
        until(promoted, "no replica is promoted", WHOLE_LIMIT)
        until(lambda: stands() is not None, "the new primary does not answer", WHOLE_LIMIT)
        if stands():
            raise NotInjected("the new primary knows what the old one granted last")
        name = cluster.members[cluster.leading()].name
        took = now() - at
        yield Injected(
            lost.name,
            f"{name} is primary in its place after {took:.1f} s, without its last grants",
            at,
        )
