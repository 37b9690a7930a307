"""The path of a URL: it must be there, for a slip would be taken for an empty store.

What this does not guarantee: that it stays there.
"""

from __future__ import annotations

from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from typing import Any

from kazoo.exceptions import NoNodeError

from electctl.errors import ConfigError, Refused
from electctl_zookeeper.session import Session
from electctl_zookeeper.target import Target

#: Names of znodes that a hint lists.
_SHOWN = 5


def must_exist(session: Session, target: Target) -> None:
    """Raise ConfigError if there is no such znode; with ``?create=true`` make it."""
    path = target.chroot
    if not path:
        return
    if session.ask(partial(_exists, path=path)) is not None:
        return
    # Another server may know more than ours.
    if session.gather([partial(_sync, path=path), partial(_exists, path=path)])[1] is not None:
        return
    if target.create:
        session.create_as_in(path)
        session.ensure_path(path)
        return
    raise ConfigError(
        f"ZooKeeper at {target.peer} has no znode {path}, the path of the URL",
        hint=f"{_near(session, path)}?create=true makes it",
    )


def _near(session: Session, path: str) -> str:
    above, _, name = path.rpartition("/")
    with suppress(NoNodeError, Refused):
        found = sorted(session.ask(partial(_children, path=above or "/")))
        near = get_close_matches(name, found, _SHOWN)
        if near:
            return f"did you mean {' or '.join(f'{above}/{one}' for one in near)}? "
        if found:
            more = ", …" if len(found) > _SHOWN else ""
            return f"{above or '/'} holds {', '.join(found[:_SHOWN])}{more}; "
        return ""
    return _near(session, above) if above else ""


def _exists(client: Any, path: str) -> Any:
    return client.exists_async(path)


def _sync(client: Any, path: str) -> Any:
    return client.sync_async(path)


def _children(client: Any, path: str) -> Any:
    return client.get_children_async(path)
