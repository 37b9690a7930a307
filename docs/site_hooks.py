"""What the site does with links to files of the repository: it names them.

What this does not guarantee: anything about a link to what is not there. MkDocs warns of it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
_OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./([^)#\s]+)(?:#[^)\s]*)?\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for each page."""

    def named(link: re.Match[str]) -> str:
        text, target = link.groups()
        if not (ROOT / target).exists():
            return link[0]
        return text if text.strip("`") == target else f"{text} (`{target}`)"

    return _OUTSIDE.sub(named, markdown)
