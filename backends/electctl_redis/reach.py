"""From a target to a connection: to one server, or to the primary that Sentinels name.

What this does not guarantee: that Sentinels name the one true primary
(:mod:`electctl_redis.sentinel`), or that a server which was reached has the key that is wanted
(:mod:`electctl_redis.connect`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import redis.exceptions

from electctl.base.clock import now
from electctl.errors import ConfigError, ElectctlError, Refused, Unreachable
from electctl_redis.link import Link
from electctl_redis.sentinel import Word, agreed, ranked

if TYPE_CHECKING:
    from electctl_redis.target import Address, Target


def connect(target: Target, address: Address, deadline: float) -> Link:
    """A connection to that server, logged in."""
    secret = target.credentials.get().secret  # before the server waits for it
    link = Link(address, target.tls, deadline)
    link.login(target.user, secret, target.db, deadline, cluster=target.cluster)
    return link


def primary(target: Target, deadline: float) -> Link:
    """A connection to the primary. Whoever is silent uses up its own share of the time only.

    Raises Unreachable with what each said; Refused, or ConfigError (it is no Sentinel), if that is
    all that was said.
    """
    words: list[Word] = []
    tried: set[Address] = set()
    troubles: list[ElectctlError] = []
    hosts = target.hosts
    for index, host in enumerate(hosts):
        unasked = len(hosts) - index
        try:
            words.append(_word(target, host, share(deadline, unasked + 1)))
        except (Unreachable, Refused, ConfigError) as error:
            troubles.append(error)
        if unasked > 1 and not agreed(words, len(hosts)):
            continue
        untried = [one for one in ranked(words, len(hosts)) if one not in tried]
        for place, address in enumerate(untried):
            tried.add(address)
            # Some is left for the Sentinels that have not been asked.
            parts = len(untried) - place + (unasked > 1)
            try:
                return _proved(connect(target, address, share(deadline, parts)), deadline)
            except (Unreachable, Refused) as error:
                troubles.append(error)
    raise summed_up(
        troubles,
        "is a fail-over under way? redis+sentinel://host:port,…/service names each Sentinel",
    )


def summed_up(troubles: list[ElectctlError], hint: str) -> ElectctlError:
    """One error for what several servers said: a final one only if nothing else was said."""
    final = [error for error in troubles if isinstance(error, Refused | ConfigError)]
    if final and len(final) == len(troubles):
        return final[0]
    return Unreachable("; ".join(dict.fromkeys(error.message for error in troubles)), hint=hint)


def share(deadline: float, parts: int) -> float:
    """The end of the first of ``parts`` equal parts of the time that is left."""
    at = now()
    return at + (deadline - at) / parts


def _word(target: Target, host: Address, deadline: float) -> Word:
    secret = target.sentinel_password
    try:
        link = Link(host, target.tls, deadline)
        link.login(target.sentinel_user, secret, 0, deadline)
    except Refused as error:
        raise Refused(
            f"Sentinel: {error.message}", hint="?sentinel_user=…&sentinel_password=…"
        ) from error
    try:
        with link.translated():
            link.send("SENTINEL", "GET-MASTER-ADDR-BY-NAME", target.service)
            link.send("SENTINEL", "MASTER", target.service)
            found = link.read(deadline)
            if found is None:
                raise Unreachable(
                    f"the Sentinel at {link.peer} knows no service {target.service!r}"
                )
            try:
                said = link.read(deadline)
            except redis.exceptions.ResponseError:
                said = []  # not permitted: then its word counts as old
    except Refused as error:
        raise Refused(
            f"Sentinel: {error.message}", hint="?sentinel_user=…&sentinel_password=…"
        ) from error
    finally:
        link.close()
    facts = dict(zip(said[::2], said[1::2], strict=False))
    return Word((found[0].decode(), int(found[1])), int(facts.get(b"config-epoch", 0)))


def _proved(link: Link, deadline: float) -> Link:
    try:
        with link.translated():
            role = link.call("ROLE", deadline=deadline)[0]
        if role != b"master":
            raise Unreachable(
                f"{link.peer} is a {role.decode()}, and a Sentinel still calls it the primary"
            )
    except BaseException:
        link.close()
        raise
    return link
