"""``electctl check ELECTION``: asked of the store, from outside any campaign, on every backend."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from electctl.base.clock import now
from electctl.cli import asking
from electctl.core.elector import connect
from electctl.core.leadership import Leadership
from electctl.errors import Unreachable
from electctl.lab.capable import Separable
from electctl.lab.cluster import Cluster, make_cluster
from electctl.lab.proxy import Proxy
from electctl_etcd.lab import EtcdCluster
from electctl_redis.names import Keys
from tests.campaigns import Campaign, validate
from tests.etcd import Native
from tests.processes import DEADLINE, Electctl, wait_for

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(scope="module", params=["redis", "etcd", "zk", "raft"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """One server of each scheme."""
    home = tmp_path_factory.mktemp("check") / request.param
    with make_cluster(request.param, home, 1) as cluster:
        yield cluster


@pytest.fixture(scope="module", params=["etcd", "zk", "raft"])
def quorum(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Three members whose links can be broken."""
    home = tmp_path_factory.mktemp("quorum") / request.param
    with make_cluster(request.param, home, 3, breakable=True) as cluster:
        yield cluster


@contextmanager
def leading(url: str, election: str, name: str) -> Iterator[Leadership]:
    with connect(url) as elector, elector.campaign(election, name, ttl=10, wait=10) as term:
        yield term


class Asker:
    """``electctl check ELECTION`` on one backend; each line held against its schema."""

    def __init__(self, electctl: Electctl, url: str, election: str) -> None:
        self._electctl = electctl
        self._argv = ("check", election, "-b", url)

    def says(self, code: int, *options: str) -> str:
        """What it prints; ``code`` is the exit code that must come."""
        done = self._electctl.run(*self._argv, *options, check=code)
        assert (done.stderr == "") == (code in (0, 1)), done.stderr
        assert (done.stdout != "") == (code in (0, 1)), done.stdout
        return done.stdout

    def json(self, code: int, *options: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.says(code, "--json", *options))
        validate("check", answer)
        assert answer["leading"] == (code == 0)
        return answer

    def error(self, code: int, *options: str) -> str:
        """What it complains of, without anything on stdout."""
        done = self._electctl.run(*self._argv, *options, check=code)
        assert done.stdout == ""
        assert "hint: " in done.stderr
        return done.stderr


# On every backend --------------------------------------------------------------------------------


def test_yes_and_no(electctl: Electctl, store: Cluster, election: str) -> None:
    ask = Asker(electctl, store.url, election)
    assert ask.says(1) == f"nobody leads {election}\n"
    assert ask.json(1, "--id", "host-a", "--least-token", "1")["holder"] is None
    with leading(store.url, election, "host-a") as term:
        token = term.token
        assert token is not None
        yes = f"host-a leads {election} (token {token})"
        assert ask.says(0) == ask.says(0, "--id", "host-a") == yes + "\n"
        assert ask.says(0, "--id", "host-a", "--least-token", str(token)) == yes + "\n"
        assert ask.says(0, "--least-token", "0") == yes + "\n"
        assert ask.says(1, "--id", "host-b") == f"{yes}, not host-b\n"
        assert ask.says(1, "--least-token", str(token + 1)) == f"{yes}, below {token + 1}\n"
        for code, more in ((0, "host-a"), (1, "host-b")):
            answer = ask.json(code, "--id", more)
            assert (answer["holder"], answer["token"]) == ("host-a", token)
            assert (answer["election"], answer["url"]) == (election, store.url)
    assert ask.says(1, "--id", "host-a") == f"nobody leads {election}\n"


def test_quiet_says_nothing(electctl: Electctl, store: Cluster, election: str) -> None:
    args = ("check", election, "-q", "-b", store.url)
    assert electctl.run(*args, check=1).stdout == ""
    with leading(store.url, election, "w"):
        done = electctl.run(*args, check=0)
    assert (done.stdout, done.stderr) == ("", "")


def test_words_that_come_a_moment_late_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that gives up after as long as we wait knows better than we what was wrong."""

    def ask() -> None:
        time.sleep(0.2)
        raise Unreachable("it takes no more clients")

    monkeypatch.setattr(asking, "LAST_WORDS", DEADLINE)
    with pytest.raises(Unreachable, match="it takes no more clients"):
        asking.Asking("the store", 0.0, ask).answer()


def test_a_silent_store_is_69_in_time(electctl: Electctl, store: Cluster, election: str) -> None:
    with Proxy(store.entrances[0].address) as link, leading(store.url, election, "host-a"):
        ask = Asker(electctl, store.url_for([link.address]), election)
        ask.says(0)
        link.swallow()
        began = now()
        ask.error(69, "--timeout", "1s")
        assert now() - began < 3.0
        began = now()
        ask.error(69, "--id", "host-b")
        assert now() - began < 6.0


def test_no_server_is_69_at_once(electctl: Electctl, store: Cluster, election: str) -> None:
    with Proxy(store.entrances[0].address) as link:
        link.cut()
        began = now()
        Asker(electctl, store.url_for([link.address]), election).error(69)
        assert now() - began < 6.0


def test_a_member_that_is_cut_off_does_not_say_yes(
    electctl: Electctl, quorum: Cluster, election: str
) -> None:
    """It led the others, has the leader in its memory, and does not know yet that it is alone."""
    assert isinstance(quorum, Separable)
    far = quorum.leading()
    address = quorum.entrances[far].address
    with leading(quorum.url, election, "host-a"):
        ask = Asker(electctl, quorum.url_for([address]), election)
        ask.says(0, "--id", "host-a")
        quorum.ways.separate(far)
        try:
            ask.error(69, "--id", "host-a")
            ask.error(69, "--id", "host-b")
        finally:
            quorum.ways.heal()


@pytest.mark.server
def test_the_embedded_store(electctl: Electctl, election: str) -> None:
    done = electctl.run("check", election, check=1)
    assert done.stdout == f"nobody leads {election}\n"
    assert "started the embedded server" in done.stderr
    Campaign(electctl, None, election, "--id", "host-a").event("elected")
    assert electctl.run("check", election, "--id", "host-a", check=0).stderr == ""
    electctl.run("check", election, "--id", "host-b", check=1)


# What cannot be known ----------------------------------------------------------------------------


def test_a_leader_without_a_token(electctl: Electctl, redis_url: str, election: str) -> None:
    ask = Asker(electctl, redis_url, election)
    with redis.Redis.from_url(redis_url) as server:
        server.set(Keys.of(election, 0).lock, "theirs", px=60_000)
    assert ask.json(0)["token"] is None
    assert "has no token" in ask.error(3, "--least-token", "1")
    # What is certainly "no" is so whatever else is not known.
    holder = ask.json(0)["holder"]
    ask.says(1, "--id", "host-a", "--least-token", "1")
    ask.error(3, "--id", holder, "--least-token", "1")


def test_a_leader_without_a_name(
    electctl: Electctl, election: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with (
        EtcdCluster(tmp_path_factory.mktemp("etcd")) as etcd,
        Native(etcd, "lock", election) as lock,
    ):
        assert lock.line(5)
        ask = Asker(electctl, etcd.url, election)
        answer = ask.json(0)
        assert answer["holder"] == ""
        assert "(anonymous) leads" in ask.says(0)
        assert "cannot be known" in ask.error(3, "--id", "host-a")
        ask.says(1, "--id", "host-a", "--least-token", str(answer["token"] + 1))


# Where it is asked -------------------------------------------------------------------------------


def test_inside_a_campaign_a_name_asks_the_store(
    electctl: Electctl, redis_url: str, election: str
) -> None:
    script = (
        f"electctl check; electctl check {election} --id me; electctl check other || echo no $?"
    )
    campaign = Campaign(
        electctl, redis_url, election, "--id", "me", command=("sh", "-c", script), ttl="10s"
    )
    campaign.end(0)
    ours, named, other, code = campaign.stdout.splitlines()
    assert ours.startswith("leading, ")
    assert named.startswith(f"me leads {election} (token ")
    assert (other, code) == ("nobody leads other", "no 1")


def test_without_home_or_path(electctl: Electctl, redis_url: str, election: str) -> None:
    """As a load balancer starts it."""
    bare = dict.fromkeys(electctl.env, None)
    with leading(redis_url, election, "w"):
        args = ("check", election, "-b", redis_url, "--id")
        assert electctl.run(*args, "w", env=bare, check=0).stderr == ""
        assert electctl.run(*args, "v", env=bare, check=1).stderr == ""


def test_refused_credentials_are_77(electctl: Electctl, redis_url: str, election: str) -> None:
    url = redis_url.replace("redis://", "redis://nobody:s3cret@")
    assert "s3cret" not in Asker(electctl, url, election).error(77)


def test_it_can_be_interrupted_while_it_asks(
    electctl: Electctl, proxy: Proxy, proxied_url: str, election: str
) -> None:
    proxy.swallow()
    process = electctl.popen("check", election, "-b", proxied_url, "--timeout", "60s")
    wait_for(lambda: proxy.counters.accepted, what="it asks")
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 130
