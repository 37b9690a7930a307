"""A record whose writer is told to stop right after it has written a line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from electctl.record.events import Event
from electctl.record.history import Recorder
from electctl.verify.files import Histories


def test_no_line_has_the_number_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record"
    usual = os.write

    def interrupted(fd: int, data: bytes) -> int:
        usual(fd, data)
        raise KeyboardInterrupt

    with Recorder(path) as recorder:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", interrupted)
            with pytest.raises(KeyboardInterrupt):
                recorder.write(Event("vacant", "nightly", "redis"))
        recorder.write(Event("vacant", "nightly", "redis"))
    assert path.read_bytes().count(b"\n") == 2
    assert Histories([path]).verify().violation is None
