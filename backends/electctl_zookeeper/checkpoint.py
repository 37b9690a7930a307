"""Checkpoints that a leader writes: each in one transaction with the check that its znode exists.

What this does not guarantee: that a write without an answer was not done. The next one looks.
"""

from __future__ import annotations

from typing import Any

from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError

from electctl.errors import LeadershipLost
from electctl_zookeeper.failures import SessionLost
from electctl_zookeeper.names import Paths
from electctl_zookeeper.record import Record
from electctl_zookeeper.session import Session


class Checkpoints:
    """Those of one election, for who leads it under ``token`` by the znode ``own``.

    ``timeout`` is in seconds, of each request.
    """

    def __init__(self, paths: Paths, own: str, token: int, timeout: float) -> None:
        self._paths = paths
        self._own = own
        self._token = token
        self._timeout = timeout
        #: Slot → version of its znode, and the number of our last write that it holds.
        self._slots: dict[str, tuple[int, int]] = {}

    def write(self, session: Session, slot: str, value: bytes, seq: int) -> None:
        """See :meth:`Candidacy.write_checkpoint`. Raises UsageError over 1 MB."""
        data = Record(self._token, seq, value).pack()
        try:
            while True:
                # Until an answer comes it is not known what the store has.
                known = self._slots.pop(slot) if slot in self._slots else None
                version, written = known or self._look_up(session, slot)
                if written >= seq:
                    self._slots[slot] = version, written
                    return
                if self._write(session, slot, data, version, seq):
                    return
        except SessionLost as error:
            raise LeadershipLost(error.message, reason="expired") from error

    def _write(self, session: Session, slot: str, data: bytes, version: int, seq: int) -> bool:
        """False if the znode's version is another; ``version`` -1: if there is a znode."""
        path = self._paths.checkpoint(slot)

        def fill(ops: Any) -> None:
            ops.check(self._own, -1)
            if version == -1:
                ops.create(path, data)
            else:
                ops.set_data(path, data, version=version)

        try:
            results, _ = session.transact(fill, self._timeout)
        except (BadVersionError, NodeExistsError):
            return False
        except NoNodeError:
            if session.ask(lambda client: client.exists_async(self._own)) is None:
                raise LeadershipLost("our znode was deleted", reason="deleted") from None
            session.ensure_path(self._paths.checkpoints, self._paths.root, self._paths.folders)
            return False
        self._slots[slot] = (0 if version == -1 else results[1].version), seq
        return True

    def _look_up(self, session: Session, slot: str) -> tuple[int, int]:
        """The version of a checkpoint's znode, and the number of our last write that it holds.

        -1 where there is none, or none of ours. Raises LeadershipLost if a later leader's is there.
        """
        path = self._paths.checkpoint(slot)
        answer = session.gather(
            [lambda client: client.sync_async(path), lambda client: client.get_async(path)],
            self._timeout,
        )[1]
        if isinstance(answer, Exception):
            return -1, -1
        found = Record.unpack(answer[0], path)
        if found.token > self._token:
            raise LeadershipLost("a later leader has written a checkpoint", reason="deleted")
        return answer[1].version, found.seq if found.token == self._token else -1
