"""Every error electctl raises on purpose, each with its exit code.

    ElectctlError
    ├── UsageError            2   a malformed command line, URL, name or id
    │   └── Unsupported       2   something this scheme cannot do
    ├── Negative              1   the answer is "no"
    ├── Inconclusive          3   it cannot be known
    │   └── OutcomeUnknown    3   a request was sent and may or may not have acted
    ├── Unreachable          69   no contact with the backend
    │   └── Throttled        69   it is asked too much, and did not do what was asked
    ├── MissingDependency    69   a client library or a server program is not installed
    ├── InternalError        70   a bug of electctl
    ├── NotElected           75   not elected in time, or somebody leads
    ├── Refused              77   the backend refused our credentials
    ├── ConfigError          78   the configuration is bad
    │   ├── UnsafeTiming     78   its timing cannot keep the promise
    │   └── DuplicateId      78   the candidate's id is already campaigning elsewhere
    ├── LeadershipLost       79   leadership was lost, or the grant is stale
    ├── CannotRun           126   the command cannot be run
    └── CommandNotFound     127   the command is not found

The codes from 64 to 78 are those of sysexits.h(3head) where one fits. A message never holds a
password: URLs are shown through :meth:`electctl.contract.url.BackendURL.masked`.
"""

from __future__ import annotations

from typing import ClassVar


class ElectctlError(Exception):
    """Base of all. ``message`` is one line that names the cause, ``hint`` the cure."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Negative(ElectctlError):
    """The question was understood and the answer is "no"."""

    exit_code = 1


class UsageError(ElectctlError):
    """A malformed command line, URL, election name or id."""

    exit_code = 2


class Unsupported(UsageError):
    """This scheme cannot do what was asked; ``traits`` says so beforehand."""


class Inconclusive(ElectctlError):
    """The answer cannot be known."""

    exit_code = 3


class OutcomeUnknown(Inconclusive):
    """A request was sent, no answer came: it may or may not have acted."""


class Unreachable(ElectctlError):
    """No contact with the backend. Says nothing about whether a request acted."""

    exit_code = 69


#: Seconds for which a store is left alone at most, whatever it says. A rate limit may say the rest
#: of a day, and a date by a clock that is wrong comes to years: nobody who waits to lead, or who
#: watches, can do without an answer for that long, and one request a minute is no load.
LONGEST_PATIENCE = 60.0


class Throttled(Unreachable):
    """The backend has answered that it is asked too much. The request has not acted.

    ``retry_after`` is for how many seconds it asks to be left alone; 0 if it does not say, and no
    more than :data:`LONGEST_PATIENCE`. It is heeded, but no lease is counted longer for it.
    """

    def __init__(self, message: str, *, retry_after: float = 0.0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = min(max(0.0, retry_after), LONGEST_PATIENCE)  # 0 also for "nan"


class MissingDependency(ElectctlError):
    """A client library or a server program is not installed."""

    exit_code = 69


class NotElected(ElectctlError):
    """Not elected within the time allowed."""

    exit_code = 75


class InternalError(ElectctlError):
    """A bug of electctl. EX_SOFTWARE of sysexits.h(3head)."""

    exit_code = 70


class Refused(ElectctlError):
    """The backend refused our credentials or our permissions."""

    exit_code = 77


class ConfigError(ElectctlError):
    """The configuration is bad."""

    exit_code = 78


class UnsafeTiming(ConfigError):
    """The timing asked for cannot keep the promise to stop before the lease ends."""


class DuplicateId(ConfigError):
    """Another process campaigns under the same candidate id."""


class LeadershipLost(ElectctlError):
    """Leadership is over, or the grant is stale; nothing was written under it.

    ``reason`` is one of ``expired`` (no renewal was confirmed in time), ``deleted`` (the store no
    longer has our grant), ``evicted`` (we were asked to stop), ``released`` (it was given back),
    ``forked`` (this process is a fork of the one that leads).
    """

    exit_code = 79

    def __init__(self, message: str, *, reason: str = "expired", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class CannotRun(ElectctlError):
    """The command exists and cannot be executed."""

    exit_code = 126


class CommandNotFound(ElectctlError):
    """The command does not exist."""

    exit_code = 127
