"""Where a campaign's lines go when a disk is full, or a file is taken away, for a while."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from electctl.cli.campaign_output import open_events
from electctl.cli.lines import Destination, LineWriter
from tests.processes import DEADLINE, wait_for

#: Lines of 6, 41 and 2 bytes, and room for 10 while the second is written.
_FULL_FOR_A_WHILE = """
import resource, sys, time
from electctl.cli.campaign_output import open_events
from electctl.cli.lines import LineWriter

lines = LineWriter(open_events(sys.argv[1]))
lines.put("first\\n")
while not open(sys.argv[1]).read():
    time.sleep(0.01)
room, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
lines.put("x" * 40 + "\\n")
while lines.error is None:
    time.sleep(0.01)
resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
lines.put("z\\n")
while "z" not in open(sys.argv[1]).read():
    time.sleep(0.01)
"""


def test_a_disk_that_was_full_loses_no_later_line(tmp_path: Path) -> None:
    path = tmp_path / "events"
    argv = [sys.executable, "-c", _FULL_FOR_A_WHILE, str(path)]
    subprocess.run(argv, check=True, timeout=DEADLINE)
    assert path.read_text() == "first\nxxxx\nz\n"


def test_a_file_that_was_removed_or_renamed_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "events"
    lines = LineWriter(open_events(str(path)))
    lines.put("one\n")
    wait_for(lambda: path.read_text() == "one\n")
    path.rename(tmp_path / "events.1")
    lines.put("two\n")
    wait_for(lambda: path.exists() and path.read_text() == "two\n")
    path.unlink()
    lines.put("three\n")
    wait_for(lambda: path.exists() and path.read_text() == "three\n")
    tmp_path.rename(tmp_path.with_name("away"))
    lines.put("four\n")
    wait_for(lambda: (tmp_path.with_name("away") / "events").read_text() == "three\nfour\n")
    assert lines.error is None
    assert (tmp_path.with_name("away") / "events.1").read_text() == "one\n"


def test_a_descriptor_stays_the_file_that_it_is(tmp_path: Path) -> None:
    path = tmp_path / "events"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    lines = LineWriter(Destination(fd))
    path.unlink()
    lines.put("one\n")
    wait_for(lambda: os.fstat(fd).st_size == 4)
    assert not path.exists()
    os.close(fd)
