"""Stories: commands, a line, and what came of them, in tests/raft/transcripts.

ELECTCTL_UPDATE_SNAPSHOTS=1 writes what comes of them into the files; read the difference before
committing it. What they do not show: other orders of the same events.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.raft.stage import Stage

STORIES = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
LINE = "----"


def play(text: str) -> str:
    """The story with what really happens in it."""
    stage = Stage()
    told: list[str] = []
    for block in text.strip().split("\n\n"):
        commands = block.split(f"\n{LINE}", maxsplit=1)[0]
        told.append(commands)
        if all(line.startswith("#") for line in commands.splitlines()):
            continue
        stage.said.clear()
        for line in commands.splitlines():
            if not line.startswith("#"):
                stage.obey(line)
        told[-1] += "\n".join(["", LINE, *(stage.said or ["nothing"])])
    return "\n\n".join(told) + "\n"


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.stem)
def test_story(story: Path) -> None:
    written = story.read_text()
    played = play(written)
    if os.environ.get("ELECTCTL_UPDATE_SNAPSHOTS") == "1":
        story.write_text(played)
    else:
        assert played == written


def test_there_are_stories() -> None:
    assert len(STORIES) >= 5
