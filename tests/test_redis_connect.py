"""How the Redis backend connects: URLs, TLS, users, Sentinel, and what each error means."""

from __future__ import annotations

import inspect
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

import electctl
from electctl.base.clock import now
from electctl.contract.backend import Bid
from electctl.contract.url import BackendURL
from electctl.core.elector import LeaderElector
from electctl.core.registry import open_backend
from electctl.errors import (
    ConfigError,
    ElectctlError,
    LeadershipLost,
    Refused,
    Unreachable,
    UsageError,
)
from electctl.lab.cluster import Cluster
from electctl.lab.ports import HOST, HeldPort
from electctl_redis.connect import Links
from electctl_redis.failures import CLIENT_ERRORS, NEEDED_RIGHTS, translate
from electctl_redis.lab import RedisCluster, SentinelCluster
from electctl_redis.slots import Slots
from electctl_redis.target import Target
from electctl_redis.traits import TRAITS, traits_of
from tests.processes import wait_for

NAME = "nightly"


def leads(url: str, **options: Any) -> int | None:
    """Lead once; the token."""
    with electctl.connect(url) as elector, elector.campaign(NAME, wait=0, **options) as leadership:
        leadership.checkpoint.set(b"done")
        assert leadership.checkpoint.get() == b"done"
        return leadership.token


# URLs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says", "hint"),
    [
        ("redis://h:1,h:2/0", "one server, 2", "redis+sentinel://"),
        ("redis://h/zero", "database number", "/0"),
        ("redis://h/-1", "database number", "/0"),
        ("redis://h/1/2", "database number", "/0"),
        ("redis://h/²", "database number", "/0"),
        ("redis://user@h/0", "no password", "ELECTCTL_PASSWORD"),
        ("redis://h/0?ca=x", "ca means nothing", "rediss://"),
        ("redis://h/0?insecure=true", "insecure means nothing", "rediss://"),
        ("redis://h/0?sentinel_user=x", "sentinel_user means nothing", "redis+sentinel://"),
        ("rediss://h/0?tls=true", "tls means nothing", "redis+sentinel://"),
        ("rediss://h/0?insecure=perhaps", "'perhaps'", "insecure=true"),
        ("rediss://h/0?key=/dev/null", "a key and no cert", "cert="),
        ("redis+sentinel://h:1", "the service", "mymaster"),
        ("redis+sentinel:///mymaster", "names Sentinels", "mymaster"),
        ("redis+sentinel://h/mymaster/x", "database number", "/0"),
        ("redis+sentinel://h/mymaster?ca=/x", "ca means nothing", "tls=true"),
        ("redis://h:1,h:2/0", "one server, 2", "redis+cluster://"),
        ("redis+cluster://h:1,h:2/1", "no database 1", "leave the number out"),
        ("redis+cluster://h:1?key=/x", "key means nothing", "tls=true"),
        ("redis+cluster://h:1?sentinel_user=x", "sentinel_user means nothing", "redis+sentinel"),
        ("redis://h/0?prefx=1", "no option 'prefx'", "it knows"),
    ],
)
def test_malformed_urls_are_refused_with_a_hint(url: str, says: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_backend(url)
    assert says in caught.value.message
    assert caught.value.hint is not None
    assert hint in caught.value.hint


def test_tls_files_are_checked_when_the_url_is_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.crt cannot be used: No such file"):
        open_backend(f"rediss://h/0?ca={tmp_path}/none.crt")
    junk = tmp_path / "junk"
    junk.write_text("no certificate")
    with pytest.raises(ConfigError, match="cannot be used"):
        open_backend(f"rediss://h/0?ca={junk}")
    with pytest.raises(ConfigError, match="cannot be used"):
        open_backend(f"rediss://h/0?cert={junk}&key={junk}")


def test_opening_makes_no_contact_and_the_plugin_no_import() -> None:
    script = (
        "import sys, electctl_redis\n"
        "assert 'redis' not in sys.modules\n"
        "from electctl.core.registry import open_backend\n"
        "open_backend('redis+sentinel://192.0.2.1:1/mymaster/0').close()\n"
        "assert 'redis' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=30)


def test_each_scheme_has_its_traits() -> None:
    assert traits_of("redis") == TRAITS
    assert traits_of("rediss").scheme == "rediss"
    sentinel = traits_of("redis+sentinel")
    assert sentinel.scheme == "redis+sentinel"
    assert "partition" in {weakness.fault for weakness in sentinel.weaknesses}
    assert not TRAITS.token_sound
    for weakness in (*TRAITS.weaknesses, *sentinel.weaknesses):
        assert weakness.breaks


# No contact --------------------------------------------------------------------------------------


def test_a_closed_port_is_unreachable() -> None:
    held = HeldPort()
    with electctl.connect(f"redis://{HOST}:{held.number}/0") as elector:
        with pytest.raises(Unreachable, match=f"{HOST}:{held.number}"):
            elector.holder(NAME)
        began = now()
        with pytest.raises(Unreachable):
            elector.campaign(NAME, wait=0.5)
        assert now() - began < 1.5
    held.release()


def test_a_database_that_is_not_there_is_named(redis_cluster: Cluster) -> None:
    port = redis_cluster.servers[0].port
    with (
        electctl.connect(f"redis://{HOST}:{port}/99") as elector,
        pytest.raises(ConfigError, match="no such database"),
    ):
        elector.holder(NAME)


def test_something_that_is_no_redis_is_unreachable() -> None:
    with socket.create_server((HOST, 0)) as listener:

        def answer() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with (
            electctl.connect(f"redis://{HOST}:{listener.getsockname()[1]}/0") as elector,
            pytest.raises(Unreachable, match="InvalidResponse"),
        ):
            elector.holder(NAME)
        thread.join()


def test_a_restart_is_survived_and_found_again(tmp_path: Path) -> None:
    with RedisCluster(tmp_path) as cluster, electctl.connect(cluster.url) as elector:
        candidacy = elector.backend.candidacy(Bid(NAME, "a", 30.0, 2.0))
        grant = candidacy.acquire(now())
        assert grant is not None
        cluster.servers[0].stop()
        with pytest.raises(Unreachable):
            candidacy.renew()
        cluster.servers[0].start()
        candidacy.renew()
        assert elector.holder(NAME) is not None
        candidacy.release()
        candidacy.close()
        assert leads(cluster.url) == 2


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (["maxmemory 1", "maxmemory-policy noeviction"], "out of memory"),
        (["min-replicas-to-write 1"], "too few replicas"),
    ],
)
def test_a_server_that_takes_no_writes_is_unreachable_and_says_why(
    tmp_path: Path, config: list[str], says: str
) -> None:
    with RedisCluster(tmp_path, config=config) as cluster:
        with pytest.raises(Unreachable, match=says):
            leads(cluster.url)
        with redis.Redis(port=cluster.servers[0].port) as store:
            assert store.get(NAME) is None


# Users -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A server whose user may do what we say that it must, and one who lacks the channels."""
    rights = NEEDED_RIGHTS.replace("<election>", NAME)
    keys_only = rights.replace("&electctl:* ", "")
    config = [
        "user default off",
        f"user elect on >s3cret {rights}",
        f"user deaf on >s3cret {keys_only}",
        f"user plain on >s3cret {rights.replace('&__keyspace@* ', '')}",
        "user nobody on >s3cret",
    ]
    home = tmp_path_factory.mktemp("guarded")
    with RedisCluster(home, config=config, login="elect:s3cret") as cluster:
        yield cluster


def test_the_page_on_redis_grants_the_rights_that_we_ask_for() -> None:
    page = (Path(__file__).parents[1] / "docs" / "redis.md").read_text(encoding="utf-8")
    granted = re.findall(r"[~&+][\w*@:{]+", page)
    assert set(NEEDED_RIGHTS.replace("<election>", "nightly*").split()) <= set(granted)


def test_the_rights_that_we_ask_for_are_enough(guarded: RedisCluster) -> None:
    first = leads(guarded.url)
    with electctl.connect(guarded.url) as elector:
        with elector.campaign(NAME, "a", ttl=1, wait=0), closing(elector.backend.watch(NAME)) as w:
            assert w.next(5) is not None
            candidacy = elector.backend.candidacy(Bid(NAME, "b", 1.0, 1.0))
            assert candidacy.acquire(now() + 0.3) is None
            candidacy.close()
            assert elector.backend.evict(NAME, force=False) is not None
        assert elector.holder(NAME) is None
    second = leads(guarded.url)
    assert first is not None
    assert second == first + 2


def test_keyspace_notifications_are_wanted_and_not_needed(guarded: RedisCluster) -> None:
    port = guarded.servers[0].port
    with (
        redis.Redis(port=port, username="elect", password="s3cret") as client,
        electctl.connect(f"redis://plain:s3cret@{HOST}:{port}/0") as elector,
        closing(elector.backend.watch(NAME)) as watch,
        closing(elector.backend.candidacy(Bid(NAME, "b", 1.0, 1.0))) as candidacy,
    ):
        # A holder that is not ours, whose key the first waiter would like to be told of.
        assert client.set(NAME, "foreign", nx=True, px=300)
        assert watch.next(5) is not None
        assert candidacy.acquire(now() + 5) is not None
        candidacy.release()


@pytest.mark.parametrize("login", ["", "elect:wrong", "who:s3cret"])
def test_wrong_credentials_are_refused_without_showing_them(
    guarded: RedisCluster, login: str
) -> None:
    port = guarded.servers[0].port
    with electctl.connect(f"redis://{login}{'@' if login else ''}{HOST}:{port}/0") as elector:
        watch = elector.backend.watch(NAME)
        for action in (
            lambda: elector.holder(NAME),
            lambda: elector.campaign(NAME, wait=0),
            lambda: watch.next(1),
        ):
            with pytest.raises(Refused) as caught:
                action()
            assert caught.value.exit_code == 77
            assert "wrong" not in caught.value.message
            assert "s3cret" not in caught.value.message
        watch.close()


def test_a_missing_right_is_refused_with_what_is_needed(guarded: RedisCluster) -> None:
    port = guarded.servers[0].port
    with electctl.connect(f"redis://nobody:s3cret@{HOST}:{port}/0") as elector:
        with pytest.raises(Refused) as caught:
            elector.campaign(NAME, wait=0)
        assert caught.value.hint is not None
        assert "+evalsha" in caught.value.hint


def test_without_the_right_to_channels_a_free_lock_is_led_and_waiting_refused(
    guarded: RedisCluster,
) -> None:
    port = guarded.servers[0].port
    with electctl.connect(f"redis://deaf:s3cret@{HOST}:{port}/0") as elector:
        with elector.campaign(NAME, "a", wait=0), pytest.raises(Refused, match="channel"):
            elector.campaign(NAME, "b", wait=5)
        assert elector.holder(NAME) is None


# TLS ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    home = tmp_path_factory.mktemp("secure")
    with RedisCluster(home, scheme="rediss", client_certs=True) as cluster:
        yield cluster


def test_tls_with_client_certificates(secure: RedisCluster) -> None:
    assert "&cert=" in secure.url
    leads(secure.url)
    with (
        electctl.connect(secure.url) as elector,
        elector.campaign(NAME, "a", ttl=2, wait=0) as leadership,
        closing(elector.backend.candidacy(Bid(NAME, "b", 2.0, 1.0))) as other,
        closing(elector.backend.watch(NAME)) as watch,
    ):
        assert other.acquire(now() + 0.3) is None
        view = watch.next(5)
        assert view is not None
        assert view.holder is not None
        assert view.holder.token == leadership.token
        assert watch.next(0.3) is None


def test_insecure_accepts_any_server_certificate(secure: RedisCluster) -> None:
    path = secure.certificates
    port = secure.servers[0].port
    leads(f"rediss://{HOST}:{port}/0?insecure=true&cert={path}/client.crt&key={path}/client.key")


def test_an_unknown_authority_is_named(secure: RedisCluster) -> None:
    with pytest.raises(Unreachable, match="certificate is not accepted") as caught:
        leads(f"rediss://{HOST}:{secure.servers[0].port}/0")
    assert caught.value.hint is not None
    assert "ca=" in caught.value.hint


def test_a_missing_client_certificate_is_refused(secure: RedisCluster) -> None:
    ca = secure.certificates / "ca.crt"
    with pytest.raises(Refused, match="rejects our TLS certificate"):
        leads(f"rediss://{HOST}:{secure.servers[0].port}/0?ca={ca}")


def test_tls_spoken_to_a_plain_port_and_the_other_way_round(
    secure: RedisCluster, redis_cluster: Cluster
) -> None:
    with pytest.raises(Unreachable):
        leads(f"rediss://{HOST}:{redis_cluster.servers[0].port}/0?insecure=true")
    with pytest.raises(Unreachable):
        leads(f"redis://{HOST}:{secure.servers[0].port}/0")


# Sentinel ----------------------------------------------------------------------------------------


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[SentinelCluster]:
    with SentinelCluster(tmp_path, scheme="redis+sentinel") as cluster:
        yield cluster


@pytest.mark.slow
def test_a_fail_over_is_followed(sentinels: SentinelCluster) -> None:
    with electctl.connect(sentinels.url) as elector:
        waiting = _follow(elector, sentinels)
        # A grant that nobody renews: a leadership would go on, if the fail-over is a fast one.
        with closing(elector.backend.candidacy(Bid(NAME, "a", 3.0, 2.0))) as first:
            granted = first.acquire(now())
            assert granted is not None
            assert granted.token is not None
            old = sentinels.primary()
            with closing(elector.backend.watch(NAME)) as watch:
                assert watch.next(5) is not None
                with redis.Redis(port=old.port) as store:
                    assert store.wait(1, 5000) == 1  # replicated, so the token must go on growing
                old.kill()
                views = iter(lambda: watch.next(10), None)
                with pytest.raises(Unreachable):
                    list(views)
            # A Sentinel that was starved for 2 s does nothing for the next 30 s.
            wait_for(lambda: sentinels.primary() is not old, 60, what="a fail-over")
            with elector.campaign(NAME, "b", ttl=3, wait=30) as second:
                assert second.token is not None
                assert second.token > granted.token
                with pytest.raises(LeadershipLost):
                    first.renew()
        _demoted_servers_are_not_asked(waiting, sentinels, old)


def _follow(elector: LeaderElector, sentinels: SentinelCluster) -> LeaderElector:
    """The service is found also when the first Sentinel is down, and a wrong name is told."""
    sentinels.entrances[0].stop()
    assert elector.holder(NAME) is None
    sentinels.entrances[0].start()
    with (
        electctl.connect(sentinels.url.replace("mymaster", "other")) as wrong,
        pytest.raises(Unreachable, match="knows no service 'other'"),
    ):
        wrong.holder(NAME)
    return elector


def _demoted_servers_are_not_asked(
    elector: LeaderElector, sentinels: SentinelCluster, old: Any
) -> None:
    old.start()
    with redis.Redis(port=old.port) as store:
        wait_for(lambda: store.info("replication")["role"] == "slave", what="it is demoted")
    with (
        electctl.connect(f"redis://{HOST}:{old.port}/0") as direct,
        pytest.raises(Unreachable, match="replica"),
    ):
        direct.campaign(NAME, "c", wait=0)
    with elector.campaign(NAME, "c", wait=5):
        assert sentinels.primary() is not old


# Errors ------------------------------------------------------------------------------------------


def _raised_by_the_client() -> list[type[Exception]]:
    return [
        found
        for _, found in inspect.getmembers(redis.exceptions, inspect.isclass)
        if issubclass(found, Exception) and found.__module__ == "redis.exceptions"
    ]


@pytest.mark.parametrize("kind", _raised_by_the_client(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_client_library_is_mapped(kind: type[Exception]) -> None:
    text = "1 host:7000" if issubclass(kind, redis.exceptions.AskError) else "some text"
    error = kind(text)
    assert isinstance(error, CLIENT_ERRORS)
    found = translate(error, "h:1")
    assert isinstance(found, ElectctlError)
    assert found.exit_code in (69, 77, 78)
    assert "h:1" in found.message
    assert "\n" not in found.message
    if kind.__name__.startswith(("Authent", "Authoriz", "NoPermission")):
        assert isinstance(found, Refused)


def test_a_name_that_does_not_resolve_is_told_from_a_server_that_is_down() -> None:
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert translate(unknown, "h:1").hint == "is the name right?"
    assert translate(ConnectionRefusedError(111, "Connection refused"), "h:1").hint == (
        "is it running?"
    )


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("WRONGTYPE Operation against a key", ConfigError),
        ("NOREPLICAS Not enough good replicas to write.", Unreachable),
        ("MISCONF Redis is configured to save RDB snapshots", Unreachable),
        ("BUSY Redis is busy running a script", Unreachable),
        ("DENIED Redis is running in protected mode", Refused),
        ("NOPERM this user has no permissions", Refused),
        ("Error running script (call to f_0): @user_script:4: -OOM command not", Unreachable),
        ("Error running script (call to f_0): @user_script:4: -WRONGTYPE Op", ConfigError),
        ("Error running script (call to f_0): @user_script: 4: -READONLY You", Unreachable),
        ("unknown command 'EVALSHA'", ConfigError),
        ("value is out of range", ConfigError),
        (
            "Script attempted to execute a write command while the cluster is down and readonly",
            Unreachable,
        ),
        ("Script attempted to access a non local key in a cluster node script: f_0", Unreachable),
    ],
)
def test_the_servers_error_codes_are_read_also_inside_a_scripts(
    text: str, kind: type[ElectctlError]
) -> None:
    assert isinstance(translate(redis.exceptions.ResponseError(text), "h:1"), kind)


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), Unreachable),
        (ConnectionResetError(104, "Connection reset by peer"), Unreachable),
        (TimeoutError("timed out"), Unreachable),
        (OSError(113, "No route to host"), Unreachable),
    ],
)
def test_errors_of_the_system_are_mapped(cause: OSError, kind: type[ElectctlError]) -> None:
    assert isinstance(translate(cause, "h:1"), kind)


def test_a_password_in_the_environment_is_used(
    guarded: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELECTCTL_PASSWORD", "s3cret")
    assert os.environ["ELECTCTL_PASSWORD"] == "s3cret"
    leads(f"redis://elect@{HOST}:{guarded.servers[0].port}/0")


def test_a_tls_handshake_that_is_not_answered_takes_no_longer_than_it_may() -> None:
    """The system takes the connection; nobody ever answers the first word of TLS."""
    with socket.create_server((HOST, 0)) as silent:
        url = BackendURL.parse(f"rediss://{HOST}:{silent.getsockname()[1]}/0")
        links = Links(Target.of(url), 0.2)
        began = now()
        with closing(links), pytest.raises(Unreachable):
            links.call("PING")
        assert now() - began < 0.9, "less than a second, which the rest of an answer may take"


def test_causes_that_go_in_a_circle_have_an_end() -> None:
    """The next error is raised while the one before it is handled, and names it as its cause."""
    refused = ConnectionRefusedError(111, "Connection refused")
    error = redis.exceptions.ConnectionError("cannot connect")
    error.__cause__ = earlier = Unreachable("Redis cannot be reached")
    earlier.__cause__ = error
    assert isinstance(translate(error, "127.0.0.1:1"), Unreachable)
    earlier.__cause__ = refused
    refused.__context__ = error
    assert "Connection refused" in translate(error, "127.0.0.1:1").message


@pytest.mark.parametrize(
    ("wait", "least", "most"), [(None, 5, 5), (-1, 5, 5), (60, 5, 5), (2, 1, 2)]
)
def test_a_first_contact_takes_no_longer_than_the_wait(
    monkeypatch: pytest.MonkeyPatch, wait: float | None, least: float, most: float
) -> None:
    """So the time for each of several servers is a part of the wait."""
    given: list[float] = []

    def timed(*_: object, timeout: float, **__: object) -> None:
        given.append(timeout)
        raise Unreachable("silence")

    monkeypatch.setattr(Links, "timed", timed)
    bid = Bid("e", "a", 4.5, 1.0)
    with (
        closing(open_backend(f"redis://{HOST}:1")) as backend,
        closing(backend.candidacy(bid)) as candidacy,
        pytest.raises(Unreachable),
    ):
        candidacy.acquire(None if wait is None else now() + wait)
    (timeout,) = given
    assert least <= timeout <= most


class Compared(tuple[str, int]):
    """An address; while it is first compared with another, something else happens."""

    meanwhile: list[Callable[[], None]]
    __hash__ = tuple.__hash__

    def __eq__(self, other: object) -> bool:
        while self.meanwhile:
            self.meanwhile.pop()()
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other


def test_what_is_learnt_while_a_node_is_forgotten_is_kept() -> None:
    dead, lives = (HOST, 1), (HOST, 2)
    slots = Slots([dead, lives])
    slots.learn(b"a", dead)
    slots.learn(b"b", lives)
    node = Compared(dead)
    node.meanwhile = [partial(slots.learn, b"c", lives)]  # as another thread may
    slots.forget(node)
    assert [slots.owner(key) for key in (b"a", b"b", b"c")] == [None, lives, lives]
    assert slots.seeds == (lives, dead)
