"""The embedded server: one node of the built-in Raft on this machine, started when it is needed.

    <state>/local/
        socket    where it listens; mode 0600
        data/     its store, locked by SQLite while it runs (electctl.raft.io.sqlite)
        starting  locked (flock) by the one client that starts it
        log       what it said

What this does not guarantee: elections between users or machines; each user of each machine has a
server of their own. Nor that it outlives the process tree of whoever started it: it is detached
from that, but a manager that kills by cgroup, or a child subreaper that kills its descendants,
finds it all the same. Then whichever client needs it next starts it again, on the same data.

There is never more than one: a second cannot open the store. The lock on ``starting`` only spares
the many who need it at once from each starting one.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from electctl.base import unix_socket
from electctl.base.clock import now
from electctl.base.state import check_private, make_private, state_dir
from electctl.errors import (
    ConfigError,
    ElectctlError,
    Inconclusive,
    Negative,
    Unreachable,
    Unsupported,
)

#: Seconds without sessions and clients after which it ends.
IDLE = 60.0
#: Seconds until it must serve, and until it must have ended.
START_TIMEOUT = 15.0
END_TIMEOUT = 10.0
_CONNECT_TIMEOUT = 2.0
_POLL = 0.02
#: Starts that must fail before that is told: one fails too where the store is still in the hands of
#: a server that ends at this moment, or of one whose client was killed while it started it.
_ATTEMPTS = 2
#: What a server says whose store another has (electctl.raft.io.sqlite), and seconds for which that
#: is no failure: the other's socket may have been removed, and it makes one again within a second.
_IN_USE = "is in use by another process"
_PATIENCE = 2.5
#: Bytes of the log above which a new one is begun at a start.
_LONG_LOG = 1 << 20
#: What of our environment it gets: what the interpreter and the C library need, and no secrets.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")


@dataclass(frozen=True, slots=True)
class LocalServer:
    """The embedded server of the present user. ``idle`` is given to it if it is started by us."""

    home: Path = field(default_factory=lambda: state_dir() / "local")
    idle: float = IDLE

    @property
    def address(self) -> Path:
        """Where it listens."""
        return self.home / "socket"

    @property
    def log(self) -> Path:
        """What it said."""
        return self.home / "log"

    def __str__(self) -> str:
        return str(self.address)

    def connect(self, started: Callable[[], object] = lambda: None) -> socket.socket:
        """A connection; the server is started first if none runs, and ``started`` is then called.

        Raises ConfigError (the directory or the store cannot be used), Unreachable (it does not
        start within 15 s).
        """
        deadline = now() + START_TIMEOUT
        failures = 0
        failing_since = deadline
        while (sock := self._dial()) is None:
            if now() >= deadline:
                raise Unreachable(
                    f"the embedded server does not start, or does not end: {self.home} is locked",
                    hint=f"its log is {self.log}; is the directory shared with another machine?",
                )
            with self._alone() as ours:
                if ours and (sock := self._dial()) is not None:
                    break
                if ours and (trouble := self._start(deadline)) is not None:
                    failures += 1
                    failing_since = min(failing_since, now())
                    patient = _IN_USE in trouble.message and now() < failing_since + _PATIENCE
                    if failures >= _ATTEMPTS and not patient:
                        raise trouble
                elif ours:
                    started()
            if not ours or failures:
                time.sleep(_POLL)
        return sock

    def pid(self) -> int | None:
        """The process that serves; None if none does, or the system cannot tell."""
        sock = self._dial()
        if sock is None:
            return None
        with sock:
            return unix_socket.peer_pid(sock)

    def stop(self) -> int:
        """End it, and wait until it has ended; the number of the process.

        Raises Negative if none runs, Inconclusive if it has not ended after 10 s, Unsupported where
        the system does not tell who listens.
        """
        pid = self.pid()
        if pid is None:
            raise Negative(
                "no embedded server runs", hint="the first command that needs it starts it"
            )
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return pid
        except OSError as error:
            raise Unsupported(f"process {pid}: {error.strerror}", hint=f"kill {pid}") from None
        try:
            signal.pidfd_send_signal(process, signal.SIGTERM)
            poll = select.poll()
            poll.register(process, select.POLLIN)
            if not poll.poll(END_TIMEOUT * 1000):
                raise Inconclusive(
                    f"process {pid} has not ended after {END_TIMEOUT:g} s",
                    hint=f"kill -KILL {pid} loses nothing that was committed",
                )
        finally:
            os.close(process)
        return pid

    # What that takes ------------------------------------------------------------------------------

    def _dial(self) -> socket.socket | None:
        check_private(self.home)
        try:
            return unix_socket.connect(self.address, _CONNECT_TIMEOUT)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return None
        except BlockingIOError:
            return None  # more wait to be let in than it has room for
        except TimeoutError:
            raise Unreachable(
                f"the embedded server at {self} does not answer", hint="is it stopped?"
            ) from None
        except OSError as error:
            cause = error.strerror or str(error)
            raise ConfigError(f"{self.address} cannot be used: {cause}", hint=_HINT) from None

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether it is for us to start it."""
        make_private(self.home)
        try:
            fd = os.open(self.home / "starting", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            os.fchmod(fd, 0o600)  # the umask may have taken that
        except OSError as error:
            raise ConfigError(f"{self.home} cannot be used: {error.strerror}", hint=_HINT) from None
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                # Said, not left to close(2): a fork of ours may hold a copy.
                fcntl.flock(fd, fcntl.LOCK_UN)
        finally:
            os.close(fd)

    def _start(self, deadline: float) -> ElectctlError | None:
        """Start it and wait until it serves, or tell why it does not."""
        import subprocess

        argv = [sys.executable, "-P", "-m", "electctl", "raft", "serve", "--id", "1"]
        argv += ["--socket", str(self.address), "--data", str(self.home / "data")]
        argv += ["--idle", f"{self.idle:g}s", "--detach", str(self.log)]
        self._shorten_log()
        try:
            starter = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                cwd="/",
                start_new_session=True,
                text=True,
                errors="backslashreplace",
            )
        except OSError as error:
            return Unreachable(
                f"the embedded server cannot be started: {error.strerror}",
                hint="ulimit -u and -n, and the memory that is left, tell more",
            )
        with starter:
            try:
                _, said = starter.communicate(timeout=max(1.0, deadline - now()))
            except subprocess.TimeoutExpired:
                starter.kill()
                return Unreachable(
                    f"the embedded server does not start within {START_TIMEOUT:g} s",
                    hint=f"its log is {self.log}",
                )
        # Where SIGCHLD is ignored the kernel throws its exit code away, and 0 is only what is left:
        # it is believed of a server that is there, or that has said nothing of a failure.
        if starter.returncode == 0 and (not said or self.pid() is not None):
            return None
        return _refusal(starter.returncode, said)

    def _shorten_log(self) -> None:
        try:
            if self.log.stat().st_size > _LONG_LOG:
                self.log.rename(self.log.with_name("log.old"))
        except OSError:
            pass  # there is none yet; any other trouble is told by whoever opens it


def _refusal(code: int, said: str) -> ElectctlError:
    """What the starter said last, an error line and a hint, as an error of ours."""
    lines = said.strip().splitlines() or [f"it ended with exit code {code}"]
    hint = lines.pop().removeprefix("hint: ") if lines[-1].startswith("hint: ") else None
    cause = lines[-1].removeprefix("electctl: ") if lines else "no reason was given"
    kind = ConfigError if code == ConfigError.exit_code else Unreachable
    return kind(f"the embedded server does not start: {cause}", hint=hint)


_HINT = "ELECTCTL_STATE names another directory for state"
