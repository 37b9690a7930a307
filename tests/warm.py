"""The command line in processes that have loaded it before: for tests of what is said, by hundreds.

Each call is a process of its own, with its own arguments, environment, directory, streams and exit
code, forked from one that has imported the program and nothing else has happened to. To start
Python and to load all that takes twenty times as long as to refuse a command line.

What this does not show: what happens while the program is started. Whatever campaigns, takes
signals, or asks what it was given, is run as it is installed (:class:`tests.processes.Electctl`).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.processes import Electctl

#: How long a call may take, as in :meth:`Electctl.run`.
TIMEOUT = 60.0


class Warm:
    """A process that forks one for each call; it ends when this does.

    Another is started where it is gone: in the same process there are tests of guardians, who kill
    all children.
    """

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tests.warm", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "LANG": "C.UTF-8", "PYTHONPATH": str(Path(__file__).parents[1])},
            )

    def close(self) -> None:
        self._channel.close()
        self._process.wait()

    def call(
        self, argv: list[str], env: Mapping[str, str], cwd: Path, text: str | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end. TimeoutError if that takes longer than ``timeout`` seconds."""
        if self._process.poll() is not None:
            self.close()
            self._start()
        with (
            open(os.memfd_create("in"), "w+b") as given,
            open(os.memfd_create("out"), "w+b") as said,
            open(os.memfd_create("err"), "w+b") as cried,
        ):
            given.write((text or "").encode())
            given.seek(0)
            self._channel.settimeout(timeout)
            request = json.dumps({"argv": argv, "env": dict(env), "cwd": str(cwd)}).encode()
            streams = (given, said, cried)
            socket.send_fds(self._channel, [request], [each.fileno() for each in streams])
            code = int(self._channel.recv(64))
            said.seek(0)
            cried.seek(0)
            out, err = (each.read().decode(errors="surrogateescape") for each in (said, cried))
        return subprocess.CompletedProcess(argv, code, out, err)


class WarmElectctl(Electctl):
    """As :class:`Electctl`; what runs to its end is forked."""

    def __init__(self, home: Path, warm: Warm) -> None:
        super().__init__(home)
        self._warm = warm

    def run(
        self,
        *args: str | Path,
        input: str | None = None,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        timeout: float = TIMEOUT,
        check: int | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """See :meth:`Electctl.run`. What Python reads when it starts needs a start."""
        if any(name.startswith("PYTHON") for name in env or ()):
            return super().run(*args, input=input, env=env, cwd=cwd, timeout=timeout, check=check)
        environment = self._environment(env)
        done = self._warm.call(self._argv(args), environment, cwd or self.home, input, timeout)
        assert check is None or done.returncode == check, f"{done.returncode}: {done.stderr}"
        return done


# The process that forks ---------------------------------------------------------------------------


def serve(channel: socket.socket) -> None:
    """Fork for each request, until the other side is closed."""
    while True:
        raw, streams, _, _ = socket.recv_fds(channel, 1 << 20, 3)
        if not raw:
            return
        pid = os.fork()
        if pid == 0:
            channel.close()
            _become(json.loads(raw), streams)
        for stream in streams:
            os.close(stream)
        channel.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def _become(request: dict[str, object], streams: list[int]) -> None:
    from electctl.__main__ import main

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    argv, env, cwd = request["argv"], request["env"], request["cwd"]
    assert isinstance(argv, list)
    assert isinstance(env, dict)
    assert isinstance(cwd, str)
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = argv
    main()


def _load() -> None:
    import importlib
    import pkgutil

    import electctl.cli

    for found in pkgutil.iter_modules(electctl.cli.__path__, "electctl.cli."):
        importlib.import_module(found.name)
    for name in ("electctl.core.elector", "electctl.core.observe", "electctl.advise.loader"):
        importlib.import_module(name)


if __name__ == "__main__":
    _load()
    serve(socket.socket(fileno=int(sys.argv[1])))
