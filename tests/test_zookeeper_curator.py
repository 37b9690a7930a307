"""One election with Curator's own LeaderLatch and LeaderSelector, from Debian's jars, both ways.

What this does not show: other versions of Curator than the one that is installed (Debian 12: 5.4).
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from electctl.base.clock import now
from electctl.contract.url import BackendURL
from electctl.lab.server import find_program
from electctl.testing.stage import SLACK, Stage, eventually, let_pass
from electctl_zookeeper.lab import JAVA, TICK_MS, ZooKeeperCluster
from tests.campaigns import Campaign
from tests.processes import Electctl
from tests.zookeeper import ZooKeeperHarness, cluster, kazoo_client

SOURCE = Path(__file__).parent / "curator" / "Contender.java"
#: Curator's manifest names the jars that it needs itself.
JARS = (JAVA / "curator-recipes.jar", JAVA / "slf4j-simple.jar")
#: A JVM must not take a core from the others for long, nor the memory.
FLAGS = ("-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
#: Of Curator's contenders, in seconds.
SESSION = 3.0
#: A JVM may take so long to start on a busy machine.
START = 20.0
#: Well below any session here: who takes longer was not woken, but waited for an expiry.
PROMPT = 2.0
#: Of requests and answers on a busy machine.
SOON = 10.0
RENEWALS = 6


@dataclass(frozen=True)
class Recipe:
    """One of Curator's, and the ``?recipe=`` that contends with it."""

    curator: str
    ours: str


RECIPES = [
    pytest.param(Recipe("latch", "curator-latch"), id="LeaderLatch"),
    pytest.param(Recipe("selector", "curator-lock"), id="LeaderSelector"),
]
LATCH = RECIPES[:1]


class Curator:
    """A contender of Curator's in a JVM of its own (``Contender.java``), not yet in the queue."""

    def __init__(self, command: list[str], errors: Path) -> None:
        self.id = command[-1]
        self._errors = errors
        with errors.open("w") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        #: What it said, and when we heard it.
        self._heard: list[tuple[str, float]] = []
        self._read_so_far = 0
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, name=f"curator-{self.id}")
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._more:
                self._heard.append((line.rstrip("\n"), now()))
                self._more.notify_all()

    def next(self, within: float) -> tuple[str, float]:
        """The next line that it says, and when it came."""
        with self._more:
            found = self._more.wait_for(lambda: len(self._heard) > self._read_so_far, within)
            assert found, f"{self.id} said nothing for {within:g} s: {self._errors.read_text()}"
            self._read_so_far += 1
            return self._heard[self._read_so_far - 1]

    def says(self, line: str, within: float) -> float:
        """It says just this next. Returns when it did."""
        heard, at = self.next(within)
        assert heard == line
        return at

    @property
    def silent(self) -> bool:
        """Whether it has said nothing since it was last listened to."""
        with self._more:
            return len(self._heard) == self._read_so_far

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def look(self) -> list[str]:
        """The queue as Curator sees it; the first is whom it takes for the leader."""
        self.tell("look")
        heard, _ = self.next(SOON)
        leader, _, queue = heard.removeprefix("sees ").partition(": ")
        assert queue.split()[0] == leader
        return queue.split()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


Make = Callable[[str], Curator]


class CuratorHarness(ZooKeeperHarness):
    """Our candidates take the shape of one of Curator's recipes."""

    ttl = 3.0
    recipe = ""

    @property
    def url(self) -> str:
        return f"{self.cluster.url}&recipe={self.recipe}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperCluster]:
    with cluster(tmp_path_factory.mktemp("zookeeper"), 1) as one:
        yield one


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled contender. A missing jar or compiler is a failure."""
    compiler = find_program("javac", "default-jdk-headless")
    for jar in JARS:
        assert jar.exists(), f"{jar} is missing: apt-get install libcurator-recipes-java"
    home = tmp_path_factory.mktemp("classes")
    flags = [f"-J{flag}" for flag in FLAGS]
    # Debian's manifests name jars that its packages merely suggest: -path.
    subprocess.run(
        [compiler, *flags, "-Xlint:all,-path", "-Werror", "-d", home, "-cp", JARS[0], SOURCE],
        check=True,
    )
    return home


@pytest.fixture
def stage(server: ZooKeeperCluster, recipe: Recipe, election: str) -> Iterator[Stage]:
    harness = CuratorHarness(server)
    harness.recipe = recipe.ours
    stage = Stage(harness, f"jobs/{election}")
    with stage.exits:
        yield stage


@pytest.fixture
def curator(
    server: ZooKeeperCluster, recipe: Recipe, classes: Path, stage: Stage, tmp_path: Path
) -> Make:
    """Starts a contender in the election; it ends with the test."""
    java = find_program("java", "default-jre-headless")
    host, port = BackendURL.parse(server.url).hosts[0]

    def start(name: str) -> Curator:
        command = [java, *FLAGS, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        command += ["-cp", ":".join(map(str, (classes, *JARS))), "Contender", recipe.curator]
        command += [f"{host}:{port}", f"{SESSION * 1000:.0f}", f"/{stage.election}", name]
        return stage.exits.enter_context(Curator(command, tmp_path / f"{name}.log"))

    return start


def queue(stage: Stage) -> list[str]:
    """All ids in order, the leader's first."""
    view = stage.elector.backend.view(stage.election)
    return [] if view.holder is None else [view.holder.id, *view.waiting]


def enter(stage: Stage, contender: Curator) -> None:
    """Have it join, and wait until it is last in the queue."""
    before = queue(stage)
    contender.tell("join")
    eventually(f"{contender.id} is in", lambda: queue(stage) == [*before, contender.id], SOON)


def watches(server: ZooKeeperCluster, path: str) -> list[str]:
    """The sessions that have a watch on a znode."""
    paths: dict[str, list[str]] = {}
    for line in server.word(1, b"wchp").splitlines():
        if line.startswith("/"):
            sessions = paths.setdefault(line, [])
        elif line:
            sessions.append(line.strip())
    return paths.get(path, [])


@pytest.mark.parametrize("recipe", RECIPES)
class TestContention:
    """They wait for us and we for them; who waits longest is next."""

    def test_we_and_curator_lead_in_turn(
        self, server: ZooKeeperCluster, stage: Stage, curator: Make
    ) -> None:
        """Ours, theirs, ours; theirs waits through several renewals of the one before."""
        native = curator("native")
        first = stage.lead("first")
        native.says("ready", START)
        enter(stage, native)
        last = stage.queue("last")
        assert native.look() == queue(stage) == ["first", "native", "last"]
        with kazoo_client(server.url) as client:
            (path,) = [
                path
                for name in client.get_children(f"/{stage.election}")
                if client.get(path := f"/{stage.election}/{name}")[0] == b"first"
            ]
            # Whoever leads watches its own znode, too.
            eventually("it watches us", lambda: len(watches(server, path)) == 2, SOON)
            watching = sorted(watches(server, path))
            until = first.valid_until + RENEWALS * first.timing.renew_interval
            eventually("several renewals", lambda: first.valid_until > until, SOON)
            assert sorted(watches(server, path)) == watching, "a renewal used up its watch"
            assert client.exists(path).version == 0
        assert native.silent
        released = now()
        first.release()
        took = native.says("leading", SOON) - released
        assert took < PROMPT, f"our release did not wake it: {took:.2f} s"
        assert native.look() == queue(stage) == ["native", "last"]
        holder = stage.elector.holder(stage.election)
        assert holder is not None
        assert (holder.id, holder.can_be_asked) == ("native", False)
        assert first.token is not None
        assert holder.token is not None
        assert first.token < holder.token
        assert last.waits
        closed = now()
        native.tell("close")
        leadership = last.elected(SOON)
        took = leadership.elected_at - closed
        assert took < PROMPT, f"its release did not wake us: {took:.2f} s"
        assert leadership.token is not None
        assert leadership.token > holder.token

    def test_who_enters_first_leads_first(self, stage: Stage, curator: Make) -> None:
        """A queue of both kinds, in the order of entry, which both see alike."""
        natives = [curator(name) for name in ("native-1", "native-2")]
        for native in natives:
            native.says("ready", START)
        enter(stage, natives[0])
        natives[0].says("leading", SOON)
        waiters = [stage.queue("ours-1")]
        enter(stage, natives[1])
        waiters.append(stage.queue("ours-2"))
        assert queue(stage) == ["native-1", "ours-1", "native-2", "ours-2"]
        assert [native.look() for native in natives] == [queue(stage)] * 2
        stage.must_not_win("ours-3")
        for native, waiter in zip(natives, waiters, strict=True):
            assert waiter.waits
            native.tell("close")
            leadership = waiter.elected(SOON)
            if native is natives[0]:
                assert natives[1].silent
                leadership.release()
                natives[1].says("leading", SOON)
        assert queue(stage) == ["ours-2"]

    def test_who_leaves_the_queue_lets_nobody_lead(self, stage: Stage, curator: Make) -> None:
        """One of ours gives up, one of theirs is killed: those behind them go on waiting."""
        killed, waiting = curator("killed"), curator("waiting")
        leader = stage.lead("leader")
        ours = stage.queue("ours")
        killed.says("ready", START)
        enter(stage, killed)
        last = stage.queue("last")
        waiting.says("ready", START)
        enter(stage, waiting)
        assert queue(stage) == ["leader", "ours", "killed", "last", "waiting"]
        killed.signal(signal.SIGKILL)
        ours.attempt.cancel()
        eventually(
            "its session is over",
            lambda: queue(stage) == ["leader", "last", "waiting"],
            SESSION + SLACK + SOON,
        )
        assert waiting.look() == queue(stage)
        assert last.waits
        leader.release()
        last.elected(PROMPT)
        assert waiting.silent
        last.close()
        waiting.says("leading", PROMPT)

    def test_we_lead_when_the_session_of_a_killed_leader_is_over(
        self, stage: Stage, curator: Make
    ) -> None:
        native = curator("native")
        native.says("ready", START)
        enter(stage, native)
        native.says("leading", SOON)
        ours = stage.queue("ours")
        killed = now()
        native.signal(signal.SIGKILL)
        took = ours.elected(SESSION + SLACK + SOON).elected_at - killed
        # It pings when a third of its session has passed in silence.
        assert SESSION / 2 < took < SESSION + 2 * TICK_MS / 1000 + 2 * SLACK


@pytest.mark.parametrize("recipe", LATCH)
class TestLeaderLatch:
    """What is seen on LeaderLatch alone; the first two, because they take long."""

    def test_a_frozen_latch_loses_to_us_and_queues_behind_us(
        self, stage: Stage, curator: Make
    ) -> None:
        native = curator("native")
        native.says("ready", START)
        enter(stage, native)
        native.says("leading", SOON)
        ours = stage.queue("ours")
        native.signal(signal.SIGSTOP)
        leadership = ours.elected(SESSION + SLACK + SOON)
        native.signal(signal.SIGCONT)
        native.says("lost", SOON)
        eventually("it is back", lambda: queue(stage) == ["ours", "native"], SOON)
        leadership.check()
        leadership.release()
        native.says("leading", PROMPT)

    def test_curator_leads_after_a_frozen_campaign_whose_command_is_dead(
        self, stage: Stage, curator: Make, electctl: Electctl
    ) -> None:
        native = curator("native")
        campaign = Campaign(
            electctl,
            stage.harness.url,
            stage.election,
            "--id=frozen",
            ttl=f"{stage.ttl:g}s",
            command=("sh", "-c", "echo $$.; exec sleep 600"),
        )
        command = int(campaign.printed(".").strip(".\n"))
        native.says("ready", START)
        enter(stage, native)
        assert queue(stage) == ["frozen", "native"]
        os.kill(command, 0)
        frozen = now()
        campaign.process.send_signal(signal.SIGSTOP)
        took = native.says("leading", stage.succession + SOON) - frozen
        with pytest.raises(ProcessLookupError):
            os.kill(command, 0)
        assert took < stage.succession + SLACK

    def test_a_write_to_the_znode_of_the_one_before_would_put_it_to_sleep(
        self, server: ZooKeeperCluster, stage: Stage, curator: Make
    ) -> None:
        """Why renewals are written elsewhere. If Curator mends this, they may stay there."""
        native = curator("native")
        native.says("ready", START)
        with kazoo_client(server.url) as client:
            path = client.create(
                f"/{stage.election}/_c_{uuid.uuid4()}-latch-",
                b"writer",
                ephemeral=True,
                sequence=True,
                makepath=True,
            )
            enter(stage, native)
            eventually("it watches", lambda: len(watches(server, path)) == 1, SOON)
            client.set(path, b"writer")
            eventually("its watch is used up", lambda: not watches(server, path), SOON)
            client.delete(path)
        assert native.look() == ["native"]
        let_pass(PROMPT)
        assert native.silent
