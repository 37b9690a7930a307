"""What a replica cannot live on with.

What this does not cover: anything a client may see in normal operation; those are answers
(:mod:`electctl.raft.pure.requests`), not errors.
"""

from __future__ import annotations

from electctl.errors import ElectctlError


class Unsound(ElectctlError):
    """A promise that Raft stands on does not hold here, so the node must stop rather than go on.

    Two leaders in one term, a committed entry about to be overwritten, a commit beyond the log:
    each needs a fault outside the model (a store that lost synced data, two nodes under one id).
    """

    exit_code = 70  # EX_SOFTWARE of sysexits.h(3head)


class StoreDamaged(ElectctlError):
    """The durable store cannot be read or written, or is not this node's."""

    exit_code = 78
