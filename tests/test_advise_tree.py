"""A tree that is broken is refused with file, line and cause."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from electctl.advise import loader
from electctl.advise.evaluator import evaluate
from electctl.errors import ConfigError

PAGE = (Path(__file__).parent.parent / "docs" / "advise.md").read_text()
SMALL = PAGE.partition("```yaml\n")[2].partition("```")[0]


@pytest.mark.parametrize(
    ("old", "new", "line", "cause", "hint"),
    [
        ("format: 1", "format: 2", 1, "format 2 is not known", "format: 1"),
        ("title: Which", "titel: Which", 2, "unknown key 'titel'", "did you mean title?"),
        ("format: 1\n", "", 1, "'format' is missing", "docs/advise.md"),
        ("    ask: Does", "    aks: Does", 5, "unknown key 'aks'", "did you mean ask?"),
        ("    why: Money must not be moved twice.\n", "", 5, "has no 'why'", "add why"),
        ("      no: it does not\n", "", 8, "fewer than two values", "add one"),
        ("      no: it", "      unknown: it", 8, "a value 'unknown'", "already"),
        ("safe: yes", "safe: yse", 10, "'yse' is not known", "did you mean yes?"),
        ("safe: yes", "safe: no", 10, "its most demanding value", "in order"),
        (
            "  money:\n    ask",
            "  Money!:\n    ask",
            4,
            "'Money!' in questions is not a name",
            "small",
        ),
        ("trait: exclusion", "trait: exclusoin", 14, "'exclusoin' is not known", "exclusion?"),
        ("trait: exclusion", "trait: scope", 15, "not one of a few values", "family"),
        ("is: quorum", "is: qorum", 15, "'qorum' is not known", "did you mean quorum?"),
        ("is: quorum", "fault: pause", 15, "unknown key 'fault'", "it knows is"),
        ("    is: quorum\n", "", 13, "must have one of is, not, without", "is:"),
        ("is: quorum", "without: {}", 15, "'without' goes with trait: weaknesses", "breaks"),
        ("[ttl-lock, row", "[ttl-lok, row", 20, "'ttl-lok' is not known", "ttl-lock"),
        ("needs: [quorum]", "needs: [qorum]", 24, "'qorum' is not known", "quorum?"),
        ("force: 1", "force: one", 28, "force must be a number", "force: 1"),
        ("force: 2", "force: 0", 34, "comes after a rule of force 1", "in order"),
        ("id: otherwise", "id: money", 33, "rule 'money' is given twice", "own id"),
        ("{money: yes}", "{mony: yes}", 30, "the question 'mony', which is not there", "money?"),
        ("{money: yes}", "{money: yess}", 30, "'yess' is not known", "did you mean yes?"),
        ("{money: yes}", "{money: no}", 30, "would demand less for money=yes", "[no, yes]"),
        ("{money: yes}", "{}", 30, "is empty", "leave it out"),
        ("{money: yes}", "[]", 30, "is empty", "leave it out"),
        ("when: {money: yes}", "none_of: []", 30, "is an empty list", "leave it out"),
        ("none_of: [money]", "when: {money: no}", 27, "no rule decides where none", "none_of"),
        ("none_of: [money]", "none_of: [mony]", 36, "'mony' is not known", "did you mean money?"),
        ("class: lock", "class: consensus", 36, "no other rule may silence it", "none_of"),
        ("class: lock", "class: lok", 37, "'lok' is not known", "did you mean lock?"),
        ("because: Rule 4", "becuase: Rule 4", 32, "unknown key 'becuase'", "because?"),
        ("Rule 4 of our handbook.", "'", 39, "this is not YAML", "docs/advise.md"),
        ("rules:\n", "rules: all\nrest:\n", 27, "unknown key 'rest'", "did you mean rules?"),
        ("safe: yes", "safe: yes\n    kind: preference", 31, "for a mere preference", "prefer"),
    ],
)
def test_a_broken_tree_is_refused_with_its_line(
    old: str, new: str, line: int, cause: str, hint: str
) -> None:
    text = SMALL
    assert loader.parse(text.encode(), "small.yaml").classes
    assert text.count(old) == 1 or old in ("force: 1", "is: quorum")
    with pytest.raises(ConfigError) as caught:
        loader.parse(text.replace(old, new, 1).encode(), "small.yaml")
    assert cause in caught.value.message
    assert caught.value.message.startswith(f"small.yaml:{line}: ")
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "line", "cause", "hint"),
    [
        ("- when: {money: yes}\n  text: t\n  wins: money", 1, "between two answers", "add one"),
        (
            "- when: {money: yes, size: big}\n  text: t\n  wins: x",
            3,
            "'x' is not known",
            "it knows",
        ),
        ("- when: {money: no, size: big}\n  text: t\n  wins: money", 3, "does not fire", "follow"),
        ("- when: {money: no, size: big}\n  text: t\n  wins: otherwise", 3, "does not f", "follow"),
        ("none", 0, "conflicts must be a list", "- "),
    ],
)
def test_a_broken_conflict_is_refused(text: str, line: int, cause: str, hint: str) -> None:
    size = "  size:\n    {ask: a, why: w, safe: big, values: {small: s, big: b}}\n"
    whole = SMALL.replace("needs:\n", f"{size}needs:\n", 1) + "conflicts:"
    start = whole.count("\n") + 1
    whole += f"\n{text}\n" if line else f" {text}\n"
    with pytest.raises(ConfigError) as caught:
        loader.parse(whole.encode(), "small.yaml")
    assert cause in caught.value.message
    assert caught.value.message.startswith(f"small.yaml:{start + line}: ")
    assert hint in (caught.value.hint or "")


@settings(deadline=None, max_examples=100)
@given(
    place=st.integers(0, len(SMALL) - 1),
    length=st.integers(0, 30),
    put=st.text(st.sampled_from("abyes:[]{}-#&*!|>'\" \n\t\x00%é"), max_size=6),
)
def test_damage_is_a_clear_refusal_or_a_sound_tree(place: int, length: int, put: str) -> None:
    text = SMALL[:place] + put + SMALL[place + length :]
    try:
        tree = loader.parse(text.encode(), "damaged.yaml")
    except ConfigError as error:
        refused = error
    else:
        assert evaluate(tree, {}).path
        return
    assert refused.message.startswith("damaged.yaml")
    assert refused.hint
