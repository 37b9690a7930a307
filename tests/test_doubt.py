"""A store that is not certain who leads: said by every command, and proof of nothing.

What this does not show: a scheme that is uncertain by nature. The one here is the example's, and
doubts what a file beside its records tells it to.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from electctl_file.backend import FileBackend
from electctl_file.lab import FileCluster

from electctl.contract.backend import Holder, View
from electctl.contract.url import BackendURL
from electctl.core.elector import LeaderElector
from electctl.core.polling import PollingWatch
from electctl.verify.files import Histories
from tests.campaigns import validate
from tests.histories import sealed, seen
from tests.processes import Electctl

EXAMPLE = Path(__file__).parent / "example_backend"
MODULE = """
from dataclasses import replace
from pathlib import Path
from electctl.contract.backend import Plugin
from electctl_file import TRAITS
from electctl_file.backend import FileBackend

class Doubtful(FileBackend):
    def view(self, election):
        doubt = Path("/" + self.url.path, "doubt")
        return replace(super().view(election), doubt=doubt.read_text() if doubt.exists() else "")

PLUGIN = Plugin(("doubtful",), replace(TRAITS, scheme="doubtful"), "doubtful:Doubtful",
                example="doubtful:///x")
"""
DOUBT = "2 of 5 servers answered"


@pytest.fixture
def site(tmp_path: Path, electctl: Electctl) -> None:
    """A backend installed for commands that are run."""
    found = tmp_path / "site"
    info = found / "doubtful-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: doubtful\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[electctl.backends]\ndoubtful = doubtful:PLUGIN\n")
    (found / "doubtful.py").write_text(MODULE)
    electctl.env["PYTHONPATH"] = os.pathsep.join([str(found), str(EXAMPLE)])


@pytest.mark.usefixtures("site")
def test_every_command_says_so(electctl: Electctl, tmp_path: Path) -> None:
    with FileCluster(tmp_path / "lab") as cluster:
        url = cluster.url.replace("file:", "doubtful:")
        folder = Path(cluster.url.removeprefix("file://"))
        leading = LeaderElector(FileBackend(BackendURL.parse(cluster.url)))
        with leading.campaign("e", "a", ttl=30.0):
            known = json.loads(electctl.run("holders", "e", "-b", url, "--json", check=0).stdout)
            assert "certain" not in known
            electctl.run("check", "e", "--id", "a", "-b", url, check=0)

            (folder / "doubt").write_text(DOUBT)
            shown = electctl.run("holders", "e", "-b", url, check=0).stdout
            assert f"a (uncertain: {DOUBT})" in shown
            told = json.loads(electctl.run("holders", "e", "-b", url, "--json", check=0).stdout)
            validate("holders", told)
            assert (told["holder"], told["certain"], told["doubt"]) == ("a", False, DOUBT)

            for candidate in ("a", "b"):
                asked = ("check", "e", "--id", candidate, "-b", url)
                assert f"(uncertain: {DOUBT})" in electctl.run(*asked, check=3).stdout
                answer = json.loads(electctl.run(*asked, "--json", check=3).stdout)
                validate("check", answer)
                assert (answer["certain"], answer["doubt"]) == (False, DOUBT)

            watched = ("watch", "e", "-b", url, "--until-holder", "a", "--for", "1s")
            line = electctl.run(*watched, check=1).stdout
            assert f"a leads (token 1) (uncertain: {DOUBT})" in line
            event = json.loads(electctl.run(*watched, "--json", check=1).stdout.splitlines()[0])
            validate("watch-event", event)
            assert (event["certain"], event["doubt"]) == (False, DOUBT)
            (folder / "doubt").unlink()
            electctl.run(*watched, check=0)


def test_a_watch_tells_when_it_becomes_certain() -> None:
    leads = Holder("a", 1, "k")
    views = [View(leads, doubt=DOUBT), View(leads)]
    watch = PollingWatch(lambda: views.pop(0) if len(views) > 1 else views[0], 0.001)
    told = [watch.next(1.0) for _ in range(2)]
    assert [view is not None and view.certain for view in told] == [False, True]


def test_what_was_not_certain_proves_nothing(tmp_path: Path) -> None:
    """A token that falls is a violation, unless who had it was only suspected to lead."""

    def violation(**suspicion: object) -> object:
        lines = [
            seen("recording", 1),
            seen("holder", 2, "a", 5),
            seen("vacant", 3),
            seen("holder", 4, "b", 4) | suspicion,
            seen("vacant", 5),
            seen("recorded", 6),
        ]
        return Histories([sealed(tmp_path / f"{len(suspicion)}", lines)]).verify().violation

    assert violation() is not None
    assert violation(certain=False, doubt=DOUBT) is None
