"""What ``electctl advise`` has to go by: the installed schemes, and all answers.

What this does not decide: anything; that is :mod:`electctl.advise.evaluator`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from electctl.advise.evaluator import Option
    from electctl.advise.model import Tree
    from electctl.cli.frame import Frame
    from electctl.contract.traits import Traits


def installed() -> list[Option]:
    """What is installed: the schemes of one plugin that promise the same are one choice."""
    from electctl.advise.evaluator import Option
    from electctl.core.registry import plugins

    found = []
    for plugin in plugins():
        shared: dict[Traits, list[str]] = {}
        for scheme in plugin.schemes:
            shared.setdefault(plugin.traits_of(scheme), []).append(scheme)
        found += [
            Option(tuple(schemes), traits, plugin.example) for traits, schemes in shared.items()
        ]
    return found


def complete(
    frame: Frame, tree: Tree, said: dict[str, str], *, ask: bool, whose: str = ""
) -> dict[str, str]:
    """These answers, and those that are missing: asked for, or else an error."""
    from electctl.advise.answers import require_all
    from electctl.advise.evaluator import missing

    if ask and missing(tree, said):
        from electctl.cli.advise_ask import Dialogue

        said = Dialogue(frame, tree, said, whose).run()
    require_all(tree, said, whose)
    return said
