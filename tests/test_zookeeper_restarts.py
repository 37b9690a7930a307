"""zk:// on one server that is restarted again and again."""

from __future__ import annotations

from pathlib import Path

import pytest

from electctl.core.elector import connect
from tests.zookeeper import cluster


@pytest.mark.slow
def test_tokens_grow_through_twenty_restarts(tmp_path: Path, election: str) -> None:
    tokens = []
    with cluster(tmp_path, 1) as one, connect(one.url) as elector:
        for number in range(20):
            with elector.campaign(election, f"c{number}", ttl=6.0, wait=10.0) as leadership:
                tokens.append(leadership.token or 0)
            one.servers[0].restart()
    assert tokens == sorted(set(tokens))
