"""What an election may be called, and which spellings are one name.

One election has one name: its canonical one. Keys, marks, checkpoints, records and lists go by it
alone. A scheme declares in its traits how the store's native tools read a name; what those take for
one election is one here, and nothing else is.

What this does not guarantee: that names which look alike are one. Case, white space and Unicode's
forms are told apart, as native tools do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from electctl.errors import UsageError

MAX_NAME_BYTES = 1024


def check_name(text: str, what: str) -> str:
    """Return ``text`` if it can name an election or a candidate; raise UsageError if not."""
    if not text:
        raise UsageError(f"the {what} is empty", hint="give it a name")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise UsageError(f"the {what} is not valid UTF-8", hint="use text") from None
    if size > MAX_NAME_BYTES:
        raise UsageError(
            f"the {what} has {size} bytes; {MAX_NAME_BYTES} are allowed", hint="shorten it"
        )
    if "\0" in text:
        raise UsageError(f"the {what} has a NUL byte in it", hint="remove it")
    return text


@dataclass(frozen=True, slots=True)
class Naming:
    """How a scheme reads an election's name."""

    #: The name is a path: slashes at its ends and doubled ones say nothing; "." and ".." are none.
    path: bool = False
    #: What no name begins with, the store's own and ours; one that ends with a slash is a segment.
    reserved: tuple[str, ...] = ()
    #: A regular expression of the characters that the store takes in no name.
    illegal: str = ""

    def canonical(self, name: str) -> str:
        """The one name of the election that ``name`` spells; its own canonical name is itself.

        Raises UsageError for what can name no election here.
        """
        found = check_name(name, "election name")
        if self.path:
            segments = [segment for segment in found.split("/") if segment]
            if not segments:
                raise UsageError("the election name is nothing but slashes", hint="give it a name")
            if {".", ".."} & set(segments):
                raise UsageError(
                    f"the election name {name!r} has a segment . or .., which is no path in the "
                    "store",
                    hint="write the path out",
                )
            found = "/".join(segments)
        bad = re.search(self.illegal, found) if self.illegal else None
        if bad is not None:
            raise UsageError(
                f"the election name {name!r} holds {bad[0]!r}, a character that the store takes in "
                "no name",
                hint="choose another name",
            )
        for begin in self.reserved:
            if f"{found}/".startswith(begin):
                raise UsageError(
                    f"an election cannot be named {name!r}: what begins with {begin} is the "
                    "store's or electctl's own",
                    hint="choose another name",
                )
        return found


#: Each text is a name of its own.
VERBATIM = Naming()
