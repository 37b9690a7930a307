"""The Kubernetes manifest: valid, and its command lines elect one pod, run on a real Redis."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.examples import EXAMPLES, Example, crash, lines
from tests.processes import Electctl, wait_for

MANIFEST = EXAMPLES / "kubernetes" / "deployment.yaml"
#: The oldest version in which a sidecar is what the manifest says, and the newest that we know.
VERSIONS = ("1.29", kubernetes_validate.latest_version())


def objects() -> dict[str, Any]:
    return {each["kind"]: each for each in yaml.safe_load_all(MANIFEST.read_text())}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_manifest_is_valid(version: str) -> None:
    found = objects()
    for each in found.values():
        kubernetes_validate.validate(each, version, strict=True)
    found["Deployment"]["spec"]["template"]["spec"]["initContainers"][0]["restartpolicy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(found["Deployment"], version, strict=True)


class Pod:
    """The containers of one pod, as processes: its volumes are directories."""

    def __init__(self, example: Example, name: str, journal: Path) -> None:
        self._example = example
        self._name = name
        self._journal = journal
        home = example.home / name
        spec = objects()["Deployment"]["spec"]["template"]["spec"]
        (self._sidecar,) = spec["initContainers"]
        (self._app,) = spec["containers"]
        mounts = [*self._sidecar["volumeMounts"], *self._app["volumeMounts"]]
        self._places = {mount["mountPath"]: str(home / mount["name"]) for mount in mounts}
        for place in self._places.values():
            Path(place).mkdir(parents=True, exist_ok=True)
        for file, text in objects()["ConfigMap"]["data"].items():
            Path(self._places["/etc/elector"], file).write_text(self._here(text))
        self.role = Path(self._places["/role"])
        self.sidecar = self._start(self._sidecar)
        self.app = self._start(self._app)

    def _here(self, text: str) -> str:
        """``text`` with the paths of this machine, and a journal of what the app does."""
        paths = "|".join(self._places)
        text = re.sub(rf"(?<!\w)({paths})\b", lambda found: self._places[found[1]], text)
        # Each act with its time, from all pods into one file.
        note = rf'echo "{self._name} $(cut -d" " -f1 /proc/uptime) \1" >>{self._journal}'
        return re.sub(r'echo "(the .*)"', note, text)

    def _start(self, container: Mapping[str, Any]) -> subprocess.Popen[str]:
        env = {**self._example.env, "POD_NAME": self._name}
        names = {variable["name"] for variable in container.get("env", [])}
        assert names <= {"ELECTCTL_BACKEND", "ELECTCTL_PASSWORD", "POD_NAME"}
        argv = [*container["command"], *container.get("args", [])]
        quicker = {"15s": "3s", "3s": "500ms", "$(POD_NAME)": self._name}
        return self._example.start(*(quicker.get(word, self._here(word)) for word in argv), env=env)


def test_one_pod_acts_and_another_only_when_its_file_is_void(
    electctl: Electctl, redis_url: str
) -> None:
    with Example(electctl, "kubernetes", redis_url) as example:
        journal = example.home / "journal"

        def acts(pod: str) -> list[list[str]]:
            return [line.split() for line in lines(journal) if line.startswith(f"{pod} ")]

        first = Pod(example, "app-1", journal)
        wait_for(lambda: acts("app-1"), what="the first pod acts")
        second = Pod(example, "app-2", journal)
        example.says(second.sidecar, "campaigning")
        # The sidecar with its guardian is gone at once, and the app knows nothing of it.
        crash(first.sidecar)
        wait_for(lambda: acts("app-2"), what="the second pod acts")
        # Its file is still there, and was void before that.
        token, until = (first.role / "leader").read_text().split()
        assert int(until) / 1000 < float(acts("app-2")[0][1])
        assert {line[-1] for line in acts("app-1")} == {token}
        assert int(token) < int(acts("app-2")[0][-1])
        # Told to stop, it says so before it gives the leadership up.
        second.sidecar.terminate()
        example.ends(second.sidecar, 0)
        assert not (second.role / "leader").exists()
