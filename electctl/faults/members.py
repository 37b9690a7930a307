"""What is done to the servers of a store, or to the links between them.

The functions on a cluster and the number of a member undo what they did and no more; several can be
nested. Those on a scene wait, when they are left, until the store is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from electctl.base.clock import now
from electctl.errors import Unreachable
from electctl.faults.fault import Injected, NotInjected, Scene
from electctl.faults.watching import mend, until
from electctl.lab.capable import Led, Separable
from electctl.lab.cluster import Cluster
from electctl.lab.gate import Ways

#: Done to one member of a cluster.
OfMember = Callable[[Cluster, int], AbstractContextManager[Injected]]


# What a cluster must be ---------------------------------------------------------------------------


def led(cluster: Cluster) -> str | None:
    """Why there is no server that leads the store."""
    return None if isinstance(cluster, Led) else "it has no servers of its own"


def several(cluster: Cluster) -> str | None:
    """Why there is no member that follows."""
    if cluster.nodes < 2:
        return "it has one server"
    return led(cluster)


def separable(cluster: Cluster) -> str | None:
    """Why its members cannot be cut off from each other."""
    if not isinstance(cluster, Separable):
        return several(cluster) or "nothing stands between its members that could be broken"
    return several(cluster) or (None if cluster.breakable else "it was not made breakable")


def voting(cluster: Cluster) -> str | None:
    """Why its members cannot be split so that no part has a majority."""
    if isinstance(cluster, Separable) and not cluster.votes:
        return "its members do not decide by majority"
    return separable(cluster)


# To one member ------------------------------------------------------------------------------------


@contextmanager
def killed(cluster: Cluster, number: int) -> Iterator[Injected]:
    """SIGKILL; what does not run is started again on leaving."""
    server = _led(cluster).members[number]
    pid = server.pid
    at = now()
    server.kill()
    if pid is None or server.alive:
        raise NotInjected(f"{server.name} did not run, or still does")
    try:
        yield Injected(server.name, f"process {pid} is gone", at)
    finally:
        cluster.start()


@contextmanager
def paused(cluster: Cluster, number: int) -> Iterator[Injected]:
    """SIGSTOP, and SIGCONT on leaving."""
    server = _led(cluster).members[number]
    at = now()
    try:
        server.pause()
    except Unreachable as error:
        raise NotInjected(error.message) from error
    try:
        yield Injected(server.name, f"process {server.pid} is stopped (state T)", at)
    finally:
        if server.alive:
            server.resume()


@contextmanager
def separated(cluster: Cluster, number: int) -> Iterator[Injected]:
    """Nothing passes between it and the others; its clients still reach it."""
    with _parted(cluster, lambda ways: ways.separate(number)) as (lost, at):
        name = _led(cluster).members[number].name
        yield Injected(name, f"{lost} bytes between it and the others were lost", at)


@contextmanager
def _parted(cluster: Cluster, part: Callable[[Ways], None]) -> Iterator[tuple[int, float]]:
    if not isinstance(cluster, Separable) or not cluster.breakable:
        raise NotInjected(separable(cluster) or "its members cannot be cut off")
    ways = cluster.ways
    before = ways.swallowed
    at = now()
    try:
        part(ways)
        until(lambda: ways.swallowed > before, "nothing was sent that could be lost")
        yield ways.swallowed - before, at
    finally:
        ways.heal()


#: By the names that the conformance suite gives them.
OF_MEMBER: Mapping[str, OfMember] = {"kill": killed, "pause": paused, "separate": separated}


# To the leader's member, or the store's leader ----------------------------------------------------


def to_leader(act: OfMember) -> Callable[[Scene], AbstractContextManager[Injected]]:
    """Done to the member that leads the store, or to the only one."""
    return _to(act, leading)


def to_follower(act: OfMember) -> Callable[[Scene], AbstractContextManager[Injected]]:
    """Done to the follower that the leader is connected to; to another where it serves nobody."""
    return _to(act, following)


def _to(
    act: OfMember, choose: Callable[[Scene], int]
) -> Callable[[Scene], AbstractContextManager[Injected]]:
    @contextmanager
    def inject(scene: Scene) -> Iterator[Injected]:
        try:
            with act(scene.cluster, choose(scene)) as injected:
                yield injected
        finally:
            mend(scene.cluster)

    return inject


def leading(scene: Scene) -> int:
    """The member that leads the store."""
    try:
        return _led(scene.cluster).leading()
    except (LookupError, Unreachable) as error:
        raise NotInjected(f"no member leads the store: {error}") from error


def following(scene: Scene) -> int:
    """A member that does not: the one that the leader is connected to, if that is one alone."""
    first = leading(scene)
    if len(scene.links) == 1 and (ours := next(iter(scene.links))) != first:
        return ours
    return (first + 1) % len(_led(scene.cluster).members)


def _led(cluster: Cluster) -> Led:
    if not isinstance(cluster, Led):
        raise NotInjected("it has no servers of its own")
    return cluster


# To all of them -----------------------------------------------------------------------------------


@contextmanager
def split_evenly(scene: Scene) -> Iterator[Injected]:
    """The members are split so that no part has a majority; clients reach all of them."""
    groups = halves(_led(scene.cluster).members)
    try:
        with _parted(scene.cluster, lambda ways: ways.split(*groups)) as (lost, at):
            shape = " : ".join(str(len(group)) for group in groups)
            yield Injected("the members", f"split {shape}; {lost} bytes between them were lost", at)
    finally:
        mend(scene.cluster)


def halves(members: Collection[object]) -> list[range]:
    """The places of the members, in as few parts as can be of at most half of them each.

    An odd number has no even split: the one left over is a part of its own.
    """
    size = max(1, len(members) // 2)
    return [range(first, min(first + size, len(members))) for first in range(0, len(members), size)]


@contextmanager
def all_gone(scene: Scene) -> Iterator[Injected]:
    """The store is stopped in good order; started again once the leader has ended, as it must."""
    at = now()
    scene.cluster.stop()
    try:
        until(lambda: scene.leader.ended, "the leader goes on", scene.ttl + 60)
    finally:
        mend(scene.cluster)
    yield Injected("the store", "every server ended, and then the leader", at)
