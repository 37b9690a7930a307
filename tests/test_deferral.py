"""A package's ``__init__`` is put off in electctl's own process, and in no other."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from electctl.base import deferral
from electctl.lab.cluster import make_cluster

PACKAGE = "put_off_for_a_test"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a package with a submodule ``part``; its ``__init__`` makes ``whole``."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(deferral, "enabled", True)
    home = tmp_path / PACKAGE
    home.mkdir()
    (home / "__init__.py").write_text(f"from {PACKAGE} import part\nwhole = part.number + 1\n")
    (home / "part.py").write_text("number = 1\n")
    yield home
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]


def loaded(name: str = PACKAGE) -> ModuleType:
    return sys.modules[name]


@pytest.mark.usefixtures("package")
class TestLoadParts:
    def test_init_does_not_run(self) -> None:
        deferral.load_parts([f"{PACKAGE}.part"])
        assert loaded(f"{PACKAGE}.part").number == 1
        assert "whole" not in vars(loaded())

    def test_init_runs_when_asked_for_what_it_makes(self) -> None:
        deferral.load_parts([f"{PACKAGE}.part"])
        assert loaded().whole == 2
        assert type(loaded()) is ModuleType

    def test_submodule_is_no_reason_to_run_init(self, package: Path) -> None:
        (package / "other.py").write_text(f"from {PACKAGE} import part\n")
        deferral.load_parts([f"{PACKAGE}.part"])
        assert loaded().other.part is loaded().part
        assert "whole" not in vars(loaded())

    def test_what_is_not_there_is_an_error(self) -> None:
        deferral.load_parts([f"{PACKAGE}.part"])
        with pytest.raises(AttributeError, match="nothing"):
            _ = loaded().nothing

    def test_package_that_cannot_be_taken_apart_is_left_to_be_loaded_whole(
        self, package: Path
    ) -> None:
        (package / "__init__.py").write_text(f"from {PACKAGE} import part\nwhole = part.number\n")
        (package / "part.py").write_text(f"from {PACKAGE} import whole\nnumber = 1\n")
        deferral.load_parts([f"{PACKAGE}.part"])
        assert not [name for name in sys.modules if name.startswith(PACKAGE)]

    def test_not_enabled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(deferral, "enabled", False)
        deferral.load_parts([f"{PACKAGE}.part"])
        assert PACKAGE not in sys.modules

    def test_loaded_already(self) -> None:
        whole = importlib.import_module(PACKAGE)
        deferral.load_parts([f"{PACKAGE}.part"])
        assert loaded() is whole
        assert type(whole) is ModuleType


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferral, "enabled", True)
    deferral.load_parts(["no_such_package.part"])
    assert "no_such_package" not in sys.modules


CAMPAIGN = """
import os, sys
from electctl import __main__ as console
leave, ours = os._exit, os.getpid()
def show(code):
    if os.getpid() == ours:
        print(code, "redis.connection" in sys.modules, "redis.asyncio" in sys.modules, flush=True)
    leave(code)
os._exit = show
sys.argv = ["electctl", "campaign", "X", "-b", sys.argv[1], "--", "true"]
console.main()
"""


def test_redis_is_loaded_in_part(tmp_path: Path) -> None:
    with make_cluster("redis", tmp_path) as cluster:
        done = subprocess.run(
            [sys.executable, "-c", CAMPAIGN, cluster.url], capture_output=True, text=True
        )
    assert done.stdout == "0 True False\n", done.stderr


def test_library_loads_redis_whole() -> None:
    program = (
        "import sys, electctl\n"
        "electctl.connect('redis://h/0')\n"
        "print('Redis' in vars(sys.modules['redis']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr
