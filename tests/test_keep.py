"""Campaigning again and again: when, and how often."""

from __future__ import annotations

from electctl.campaign.keep import FIRST_PAUSE, LONG_TERM, MAX_PAUSE, Keep


class TestKeep:
    def test_pause_doubles_to_a_limit_and_starts_afresh_after_a_long_term(self) -> None:
        keep = Keep(True, None, lambda: 1.0)
        short = [keep.after("yes", 0.1, told_to_stop=False) for _ in range(9)]
        assert short[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
        assert short[-1] == MAX_PAUSE
        assert keep.after("yes", LONG_TERM, told_to_stop=False) == FIRST_PAUSE

    def test_ends(self) -> None:
        assert Keep(False, None, lambda: 1.0).after("yes", 1, told_to_stop=False) is None
        keep = Keep(True, 2, lambda: 1.0)
        assert keep.after("once_led", None, told_to_stop=False) is None
        assert keep.after("yes", 1.0, told_to_stop=True) is None
        assert keep.after("yes", 1.0, told_to_stop=False) is None
        assert keep.terms == 2
        keep = Keep(True, None, lambda: 1.0)
        keep.after("yes", 1.0, told_to_stop=False)
        assert keep.after("once_led", None, told_to_stop=False) is not None
        assert keep.after("no", 1.0, told_to_stop=False) is None
