"""Which way the arrows go between modules; the contracts stand in pyproject.toml."""

import ast
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]

#: What decides: given everything as an argument, so that it runs under simulated time from a seed.
DECIDES = [
    "electctl/core/lease.py",
    *(
        f"electctl/campaign/{name}.py"
        for name in ("ending", "job", "orders", "stages", "term", "trail")
    ),
    *(str(path.relative_to(ROOT)) for path in (ROOT / "electctl/raft/pure").glob("*.py")),
]
#: Modules through which the world comes in. (``os.waitstatus_to_exitcode`` and the like are pure.)
WORLD = {"asyncio", "random", "select", "selectors", "socket", "sqlite3", "subprocess", "threading"}


def test_arrows_go_down_only_and_in_no_circle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT / "backends"))

    assert lint_imports(no_cache=True) == 0


@pytest.mark.parametrize("name", DECIDES)
def test_what_decides_does_not_see_the_world(name: str) -> None:
    imported = {
        alias.name.partition(".")[0]
        for node in ast.walk(ast.parse((ROOT / name).read_text()))
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {
        (node.module or "").partition(".")[0]
        for node in ast.walk(ast.parse((ROOT / name).read_text()))
        if isinstance(node, ast.ImportFrom)
    }

    assert not imported & (WORLD | {"time"})
