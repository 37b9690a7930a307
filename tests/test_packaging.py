"""Folders, packages and entry points are one set, and the wheel holds all of it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from electctl.core import registry

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def backend_folders() -> set[str]:
    return {path.parent.name for path in (ROOT / "backends").glob("*/__init__.py")}


def test_folders_packages_and_entry_points_are_the_same_set(project: dict[str, Any]) -> None:
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    entries = project["project"]["entry-points"]["electctl.backends"]
    assert packages[0] == "electctl"
    assert {Path(path).name for path in packages[1:]} == backend_folders()
    assert {value.partition(":")[0] for value in entries.values()} == backend_folders()
    assert backend_folders()


def test_each_plugin_lists_the_schemes_that_are_registered_for_it(project: dict[str, Any]) -> None:
    entries = project["project"]["entry-points"]["electctl.backends"]
    registered: dict[str, set[str]] = {}
    for scheme, value in entries.items():
        registered.setdefault(value, set()).add(scheme)
    for value, schemes in registered.items():
        scheme = min(schemes)
        assert set(registry.plugin(scheme).schemes) == schemes, value


def test_installed_entry_points_are_those_of_the_project(project: dict[str, Any]) -> None:
    declared = set(project["project"]["entry-points"]["electctl.backends"])
    assert declared <= set(registry.schemes())


def test_the_command_line_and_the_plugins_import_no_client_library() -> None:
    code = (
        "import sys, electctl.cli.app, electctl.core.registry as r\n"
        "r.plugins()\n"
        "bad = {'redis', 'kazoo', 'etcd3', 'grpc'} & set(sys.modules)\n"
        "sys.exit(f'imported: {bad}' if bad else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_module_of_the_core_names_a_backend_package() -> None:
    for path in (ROOT / "electctl").rglob("*.py"):
        text = path.read_text()
        for folder in backend_folders():
            assert folder not in text, f"{path} names {folder}"


@pytest.mark.slow
def test_the_wheel_holds_core_backends_and_schemas_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("electctl-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if not name.startswith("electctl-")}
    assert tops == {"electctl", *backend_folders()}
    assert "electctl/py.typed" in names
    data = {
        path.relative_to(source)
        for source in (ROOT, ROOT / "backends")
        for path in source.glob("electctl*/**/*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    kinds = {".json", ".yaml", ".j2", ".css", ".js", ".binpb"}
    assert kinds <= {path.suffix for path in data}
    assert set(map(str, data)) <= set(names)
