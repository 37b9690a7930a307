"""Which server the Sentinels call the primary, when they do not all say the same.

What this does not guarantee: that it is the one true primary. Sentinels that are cut off together
with an old primary still name it, and who reaches none but these is led there.

The word of one Sentinel is not final: it may have been cut off from the others, or still name a
primary that is dead by now. So they are asked in turn until a majority of those in the URL agree,
or all have been asked. A server is tried if a majority names it, or if no word is newer: each
fail-over raises the configuration epoch, and a Sentinel that missed it says the lower one
(https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/, "Configuration epochs").
So an old primary that is still up, and that one Sentinel alone still names, is not led to while
another Sentinel that knows better can be asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from electctl_redis.target import Address


@dataclass(frozen=True, slots=True)
class Word:
    """What one Sentinel says: where the primary is, and by which configuration."""

    address: Address
    epoch: int


def agreed(words: Sequence[Word], sentinels: int) -> bool:
    """Whether a majority of all the Sentinels say the same."""
    return any(2 * count > sentinels for count in Counter(words).values())


def ranked(words: Sequence[Word], sentinels: int) -> list[Address]:
    """The servers that may be the primary, the likeliest first."""
    newest = max((word.epoch for word in words), default=0)
    votes = Counter(word.address for word in words)
    epochs = {word.address: 0 for word in words}
    for word in words:
        epochs[word.address] = max(epochs[word.address], word.epoch)
    return sorted(
        (one for one in epochs if epochs[one] == newest or 2 * votes[one] > sentinels),
        key=lambda one: (-epochs[one], -votes[one]),
    )
