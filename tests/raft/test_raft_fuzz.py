"""A small share of ``python -m benchmarks.fuzz``, from a fixed seed.

What this does not show: that memory stays bounded; that takes a million frames.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.fuzz import decode, storm


def test_frames_into_the_decoder() -> None:
    counted = decode(5000, seed=1)
    assert counted["malformed"] > 1000
    assert counted["messages"] > 500


def test_frames_into_real_nodes(tmp_path: Path) -> None:
    counted, _ = storm(2000, seed=1, home=tmp_path, say=False)
    assert counted["frames"] >= 2000
    assert counted["as a peer"] > 0
    assert counted["answers to the witness"] > 0
