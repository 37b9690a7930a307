"""The questions of ``electctl advise`` on a terminal, asked on stderr.

What this does not guarantee: that who answers has understood; ``?`` explains.
"""

from __future__ import annotations

import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING

from electctl.advise.evaluator import weigh
from electctl.advise.model import UNKNOWN
from electctl.cli import prose
from electctl.cli.render import shown

if TYPE_CHECKING:
    from electctl.advise.model import Question, Tree
    from electctl.cli.frame import Frame

_HOW = "Enter takes the answer in [brackets]; ? explains, b goes back, Ctrl-C ends."
_INDENT = "   "


class Dialogue:
    """Asks what is not answered, in the order of the tree; the answers decide what is asked."""

    def __init__(self, frame: Frame, tree: Tree, said: dict[str, str], whose: str) -> None:
        self._frame = frame
        self._tree = tree
        self._said = dict(said)
        self._asked: list[str] = []
        self._whose = whose

    def run(self) -> dict[str, str]:
        """All answers. At the end of the input: those that there are. Raises KeyboardInterrupt."""
        self._tell(f"{self._whose}{self._tree.title}")
        self._tell(_HOW)
        try:
            while (question := self._next()) is not None and self._ask(question):
                pass
        except KeyboardInterrupt:
            self._tell("")
            raise
        return self._said

    def _next(self) -> Question | None:
        for key, answer in weigh(self._tree, self._said).items():
            if answer.asked and key not in self._said:
                return answer.question
        return None

    def _ask(self, question: Question) -> bool:
        """Until it is answered, or somebody goes back. False at the end of the input."""
        known = (*question.values, UNKNOWN)
        default = question.default or UNKNOWN
        self._pose(question)
        while True:
            self._frame.stderr.write(f"{_INDENT}{question.key} [{default}]: ")
            self._frame.stderr.flush()
            line = sys.stdin.buffer.readline()
            if not line:
                self._tell("")
                return False
            word = line.decode(errors="replace").strip().lower()
            if word in ("b", "back"):
                return self._back()
            if word in ("?", "help"):
                self._tell(question.help or question.why, _INDENT)
            elif (chosen := _choice(known, word or default)) is not None:
                self._said[question.key] = chosen
                self._asked.append(question.key)
                return True
            else:
                near = get_close_matches(word, known, 1)
                hint = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(known)}"
                self._tell(f"{shown(word, 40)!r} is no answer; {hint}", _INDENT)

    def _pose(self, question: Question) -> None:
        self._tell("")
        self._tell(question.ask, _INDENT, f"{len(self._asked) + 1}. ")
        self._tell(question.why, _INDENT)
        for number, (value, meaning) in enumerate(
            [*question.values.items(), (UNKNOWN, f"counts as {question.safe}")], 1
        ):
            self._tell(meaning, " " * 22, f"{_INDENT}{number}) {value:<14}  ")

    def _back(self) -> bool:
        if self._asked:
            del self._said[self._asked.pop()]
        else:
            self._tell("This is the first question.", _INDENT)
        return True

    def _tell(self, text: str, indent: str = "", first: str | None = None) -> None:
        wrapped = prose.wrapped(shown(text), prose.width(), indent, first)
        self._frame.stderr.write(f"{wrapped}\n")
        self._frame.stderr.flush()


def _choice(known: tuple[str, ...], word: str) -> str | None:
    """The value that is meant: by number, by name, or by a beginning that only one has."""
    if word.isdecimal() and word.isascii() and 1 <= int(word) <= len(known):
        return known[int(word) - 1]
    if word in known:
        return word
    beginning = [value for value in known if value.startswith(word)]
    return beginning[0] if len(beginning) == 1 else None
