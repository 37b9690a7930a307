"""The backend of docs/writing-a-backend.md passes the suite, and is what that page prints."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from electctl_file.backend import FileBackend
from electctl_file.lab import FileCluster

from electctl.contract.url import BackendURL
from electctl.core.elector import LeaderElector
from electctl.testing import BackendConformance, Foreign, Harness, StoreConformance

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "tests" / "example_backend"


class FileHarness(Harness):
    """A directory: no network, no credentials, no native tool."""

    ttl = 2.0
    lists_waiters = False

    def open(self, url: str) -> LeaderElector:
        """By hand, because the entry points of this process were read before it was there."""
        return LeaderElector(FileBackend(BackendURL.parse(url)))

    def revoke(self, election: str) -> None:
        with self.open(self.url) as elector:
            assert elector.evict(election, force=True) is not None

    def wrong_credentials(self) -> None:
        return None

    def foreign(self) -> Foreign | None:
        return None


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What ``pip install`` would leave behind, for this process and those that it starts."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    site = tmp_path_factory.mktemp("site")
    info = site / "electctl_file-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    entries = project["entry-points"]["electctl.backends"]
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[electctl.backends]", *lines, ""]))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        yield


@pytest.fixture(scope="module")
def harness(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    with FileCluster(tmp_path_factory.mktemp("file")) as cluster:
        yield FileHarness(cluster)


class TestFile(StoreConformance):
    """All cases that need no network."""


PAGE = (ROOT / "docs" / "writing-a-backend.md").read_text()
SOURCES = [*EXAMPLE.rglob("*.py"), EXAMPLE / "pyproject.toml", Path(__file__)]


BLOCKS = re.findall(r"^```(?:py|toml)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_page_prints_what_the_example_does(block: str) -> None:
    assert any(block in path.read_text() for path in SOURCES), "not in the example any more"


def test_the_page_knows_every_group_of_cases() -> None:
    groups = {base.__name__ for base in BackendConformance.__mro__ if "cases" in base.__module__}
    groups -= {"Cases", "BackendConformance", "StoreConformance", "_WithCheckpoints"}
    assert groups <= set(re.findall(r"`(\w+)`", PAGE))
