"""Where labs live on disk, what is written of them, and who holds them.

    <state>/lab/<name>/
        lock      held (flock) by the lab's keeper for as long as it lives
        lab.json  what the lab is: a Record
        control   the keeper's socket, bound when the lab is up
        log       what the keeper printed
        data/     the servers' files

What this does not guarantee: anything on a network file system, where flock and sockets differ.
A process id is never trusted: a lab runs if its lock is held, whatever stands in a file.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from electctl.base.state import state_dir
from electctl.errors import ConfigError, UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class Record:
    """What a lab is, as ``lab up`` was asked for it. ``created`` is RFC 3339.

    ``url`` is what clients use, ``masked`` the same for people; both empty until it is up.
    """

    name: str
    scheme: str
    nodes: int
    proxied: bool
    created: str
    url: str = ""
    masked: str = ""

    def to_json(self) -> str:
        """As one JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError or TypeError if ``text`` is not a record."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class LabDir:
    """The directory of one lab."""

    path: Path

    @classmethod
    def named(cls, name: str) -> Self:
        """Raises UsageError if ``name`` cannot be one."""
        if not _NAME.match(name):
            raise UsageError(
                f"{name[:80]!r} cannot be the name of a lab",
                hint="letters, digits and . _ + -, at most 64, the first a letter or a digit",
            )
        return cls(state_dir() / "lab" / name)

    @classmethod
    def all(cls) -> list[Self]:
        """Every lab there is, by name."""
        try:
            return sorted(
                (cls(path) for path in (state_dir() / "lab").iterdir() if _NAME.match(path.name)),
                key=lambda lab: lab.path,
            )
        except (FileNotFoundError, NotADirectoryError):
            return []

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.path.name

    @property
    def data(self) -> Path:
        """The servers' files."""
        return self.path / "data"

    @property
    def log(self) -> Path:
        """What the keeper printed."""
        return self.path / "log"

    def hold(self) -> Hold | None:
        """Take the lab's lock; None if somebody has it. Makes the directory where there is none."""
        while True:
            try:
                # Apart from the rest: where this finds no place, it never will.
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise self._unusable(error) from error
            try:
                self.path.mkdir(mode=0o700, exist_ok=True)
                fd = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue  # removed by the holder between the two calls
            except OSError as error:
                raise self._unusable(error) from error
            held = Hold(self, fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.release()
                return None
            if held.is_current():
                return held
            held.release()

    def _unusable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"{self.path} cannot be used for a lab: {error.strerror}",
            hint="ELECTCTL_STATE names another directory for state",
        )

    def is_held(self) -> bool:
        """Whether somebody has the lock now. Changes nothing."""
        try:
            fd = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            # A shared lock is refused by an exclusive one, and two that look do not disturb.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def read(self) -> Record | None:
        """What is written of it; None if nothing that can be read."""
        try:
            return Record.from_json((self.path / "lab.json").read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
            return None

    def write(self, record: Record) -> None:
        """Replace what is written of it, in one step. Only the holder does."""
        new = self.path / "lab.json.new"
        new.write_text(record.to_json())
        new.replace(self.path / "lab.json")


class Hold:
    """The lock of one lab, ours until released or until this process ends."""

    def __init__(self, lab: LabDir, fd: int) -> None:
        self.lab = lab
        self._fd = fd

    def is_current(self) -> bool:
        """Whether the lock file in the directory still is the one we hold."""
        try:
            there = os.stat(self.lab.path / "lock")
        except (FileNotFoundError, NotADirectoryError):
            return False
        ours = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def remove(self) -> None:
        """Remove the lab's directory, and let go of the lock."""
        if self.is_current():
            # Renamed first: nobody finds a lab of which half is there.
            doomed = self.lab.path.with_name(f".{self.lab.name}.{os.getpid()}")
            self.lab.path.rename(doomed)
            shutil.rmtree(doomed)
        self.release()

    def release(self) -> None:
        """Let go of the lock."""
        os.close(self._fd)


def as_object(text: bytes) -> dict[str, Any]:
    """One JSON object; empty if ``text`` is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
