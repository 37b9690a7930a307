"""A real campaign under test: its process, its events, its result."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema

from tests.processes import DEADLINE, Electctl, wait_for

#: Long enough not to run out on a busy machine, short enough to wait for.
TTL = "2s"


@cache
def _schema(name: str) -> Any:
    text = (files("electctl") / "schemas" / f"{name}.schema.json").read_text()
    schema = json.loads(text)
    return jsonschema.Draft202012Validator(schema)


def validate(name: str, value: object) -> None:
    """Hold ``value`` against a schema that ships with the package."""
    _schema(name).validate(value)


class Campaign:
    """One ``electctl campaign``, started, with its output, events and result in files.

    ``url`` None names no backend.
    """

    def __init__(
        self,
        electctl: Electctl,
        url: str | None,
        election: str,
        *options: str,
        command: tuple[str, ...] = (),
        ttl: str = TTL,
        env: Mapping[str, str | None] | None = None,
        result: bool = True,
    ) -> None:
        number = len(list(electctl.home.glob("campaign-*")))
        self.home = electctl.home / f"campaign-{number}"
        self.home.mkdir()
        self._events: list[dict[str, Any]] = []
        self._read = 0
        argv = ["campaign", election, *(() if url is None else ("-b", url)), "--ttl", ttl, *options]
        argv += ["--events", str(self.home / "events")]
        if result:
            argv += ["--result", str(self.home / "result")]
        if command:
            argv += ["--", *command]
        with (self.home / "stdout").open("w") as out, (self.home / "stderr").open("w") as err:
            self.process: subprocess.Popen[str] = electctl.popen(
                *argv, stdout=out, stderr=err, env=env
            )

    @property
    def stdout(self) -> str:
        """What the command printed."""
        return (self.home / "stdout").read_text()

    @property
    def stderr(self) -> str:
        """What electctl and the command said."""
        return (self.home / "stderr").read_text()

    def events(self) -> list[dict[str, Any]]:
        """The events so far, each held against its schema."""
        path = self.home / "events"
        if not path.exists():
            return []
        # Asked again and again: what was read, and held against the schema, is not read again.
        with path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                self._read += len(line)
                self._events.append(json.loads(line))
                validate("campaign-event", self._events[-1])
        return [*self._events]

    def names(self) -> list[str]:
        """The names of the events so far."""
        return [event["event"] for event in self.events()]

    def event(self, name: str, nth: int = 0) -> dict[str, Any]:
        """Wait for the ``nth`` event of that name."""

        def found() -> dict[str, Any] | None:
            these = [event for event in self.events() if event["event"] == name]
            return these[nth] if len(these) > nth else None

        event = wait_for(found, what=f"event {name}; stderr: {self.stderr}")
        assert event is not None
        return event

    def printed(self, text: str) -> str:
        """Wait until the command has printed ``text``; all that it has printed."""
        wait_for(lambda: text in self.stdout, what=f"{text!r} on stdout")
        return self.stdout

    def end(self, code: int) -> dict[str, Any]:
        """Wait for its end, which must have this exit code; its result."""
        ended = self.process.wait(DEADLINE)
        assert ended == code, f"{ended}: {self.stderr}"
        result: dict[str, Any] = json.loads((self.home / "result").read_text())
        validate("result", result)
        assert result["exit_code"] == code
        return result
