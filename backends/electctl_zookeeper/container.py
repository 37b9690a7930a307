"""Container znodes, which kazoo does not know: the server removes one that has become empty.

What this does not guarantee: when. The server looks every minute
(``znode.container.checkIntervalMs``), and only at those that have had a child. Nor that a server
knows them: they came with 3.5.3 (ZOOKEEPER-2163); an older one answers UnimplementedError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kazoo.protocol.serialization import Create

#: What a container of ours holds; a stat does not tell containers from others.
MARK = b"electctl"
#: ZooDefs.OpCode.createContainer and CreateMode.CONTAINER.
_OPERATION = 19
_FLAG = 4


class _CreateContainer(Create):  # type: ignore[misc]
    """Create's request under another number; of the answer only the path is read."""

    type = _OPERATION


def create_container(client: Any, path: str, acl: Sequence[Any]) -> Any:
    """Start the request; kazoo's asynchronous result."""
    answer = client.handler.async_result()
    client._call(_CreateContainer(path, MARK, acl, _FLAG), answer)
    return answer


def is_ours(stat: Any) -> bool:
    """Whether that znode looks like one that we made, by the length of what it holds."""
    return bool(stat.dataLength == len(MARK))
