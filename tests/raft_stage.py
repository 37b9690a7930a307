"""What the tests of raft:// share: the conformance harness."""

from __future__ import annotations

from electctl.core.elector import connect
from electctl.testing import Harness


class RaftHarness(Harness):
    """Nodes of the built-in Raft, which know no passwords and no other tools."""

    def revoke(self, election: str) -> None:
        # Nothing but a command in the log reaches the table, so there is no way past electctl.
        with connect(self.url) as elector:
            assert elector.evict(election, force=True) is not None

    def wrong_credentials(self) -> None:
        return None

    def foreign(self) -> None:
        return None
