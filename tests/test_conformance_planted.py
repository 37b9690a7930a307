"""Backends with a planted bug, each of which a case of the conformance suite must find.

What this does not show: that every case can find every bug of its kind. It runs a case directly,
on a working backend with one method made wrong.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from electctl_file import POLL
from electctl_file.backend import FileBackend, FileCandidacy
from electctl_file.lab import FileCluster
from electctl_file.store import Record, Store, Term

from electctl.base.clock import now
from electctl.contract.backend import Backend, Bid, Candidacy, Grant, Holder, Renewal, View, Watch
from electctl.contract.url import BackendURL
from electctl.core.elector import LeaderElector
from electctl.core.polling import Poll, PollingWatch
from electctl.errors import ElectctlError, LeadershipLost, Refused, Unreachable
from electctl.lab.cluster import Cluster, make_cluster
from electctl.testing import BackendConformance, Foreign, Harness
from electctl.testing.stage import Stage
from electctl_redis.backend import RedisBackend
from electctl_redis.candidacy import RedisCandidacy
from electctl_redis.watch import RedisWatch

FOUND = (AssertionError, ElectctlError, pytest.fail.Exception)


class Buggy(Harness):
    """Opens a backend of a class of ours."""

    lists_waiters = False

    def __init__(self, cluster: Cluster, backend: type[Backend]) -> None:
        super().__init__(cluster)
        self.backend = backend

    def open(self, url: str) -> LeaderElector:
        return LeaderElector(self.backend(BackendURL.parse(url)))

    def revoke(self, election: str) -> None:
        with self.open(self.url) as elector:
            elector.evict(election, force=True)

    def wrong_credentials(self) -> str:
        host, port = BackendURL.parse(self.url).hosts[0]
        return f"redis://nobody:wrong-secret@{host}:{port}/0"

    def foreign(self) -> Foreign | None:
        return None


def must_fail(
    cluster: Cluster, backend: type[Backend], case: Callable[..., None], *args: Any
) -> None:
    stage = Stage(Buggy(cluster, backend), f"planted-{backend.__name__}")
    with pytest.raises(FOUND), stage.exits:
        case(BackendConformance(), stage, *args)


# On a directory ----------------------------------------------------------------------------------


class OnFile(FileBackend):
    kind: ClassVar[type[FileCandidacy]]

    def candidacy(self, bid: Bid) -> Candidacy:
        return self.kind(self._store, bid)


class TakesAnyLock(FileCandidacy):
    def acquire(self, deadline: float | None) -> Grant | None:
        since = now()
        with self._store.locked(self._bid.election, self._bid.request_timeout) as record:
            return Grant(self._take(record, None), since, self._bid.ttl)


class ForgetsTheCounter(FileCandidacy):
    def _take(self, record: Record, mine: Term | None) -> int:
        if mine is None:
            record.last_token = 0
        return super()._take(record, mine)


class FromTheFuture(FileCandidacy):
    def acquire(self, deadline: float | None) -> Grant | None:
        grant = super().acquire(deadline)
        return None if grant is None else replace(grant, since=grant.since + 0.1)


class RenewsAnybody(FileCandidacy):
    def _own(self, record: Record) -> Term:
        return record.current() or super()._own(record)


class RenewsNothing(FileCandidacy):
    def renew(self) -> Renewal:
        return Renewal(now(), self._bid.ttl)


class ReleasesAnybody(FileCandidacy):
    def release(self) -> None:
        with self._store.locked(self._bid.election, self._bid.request_timeout) as record:
            record.term = None
            self._store.save(self._bid.election, record)


class ReleasesNothing(FileCandidacy):
    def release(self) -> None:
        pass


class StaysMarked(FileCandidacy):
    def _take(self, record: Record, mine: Term | None) -> int:
        marked = record.evict
        token = super()._take(record, mine)
        record.evict = self._nonce if marked else ""
        self._store.save(self._bid.election, record)
        return token


class WritesAlways(FileCandidacy):
    def write_checkpoint(self, slot: str, value: bytes, seq: int) -> None:
        content = {"grant": self._nonce, "seq": seq, "value": value.hex()}
        self._store.save_checkpoint(self._bid.election, slot, content)


class WritesInAnyOrder(FileCandidacy):
    def write_checkpoint(self, slot: str, value: bytes, seq: int) -> None:
        with self._store.locked(self._bid.election, self._bid.request_timeout) as record:
            self._own(record)
            content = {"grant": self._nonce, "seq": seq, "value": value.hex()}
            self._store.save_checkpoint(self._bid.election, slot, content)


class LooksRarely(FileCandidacy):
    def __init__(self, store: Store, bid: Bid) -> None:
        super().__init__(store, bid)
        self._poll = Poll(0.8, jitter=0)


class CannotBeCancelled(FileCandidacy):
    """The core gives the call up in time, and only that tells."""

    def cancel(self) -> None:
        threading.Timer(3.0, super().cancel).start()


class ElectedLate(FileCandidacy):
    """Gives up, and leaves behind what may win."""

    gave_up = False

    def acquire(self, deadline: float | None) -> Grant | None:
        grant = super().acquire(deadline)
        if grant is None:
            with self._store.locked(self._bid.election, self._bid.request_timeout) as record:
                self._take(record, None)
            self.gave_up = True
        return grant

    def release(self) -> None:
        if not self.gave_up:
            super().release()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with FileCluster(tmp_path_factory.mktemp("planted")) as cluster:
        yield cluster


Suite = BackendConformance


@pytest.mark.parametrize(
    ("bug", "case"),
    [
        (TakesAnyLock, Suite.test_one_at_a_time_of_twenty_candidates),
        (TakesAnyLock, Suite.test_an_id_in_use_is_not_elected_twice),
        (TakesAnyLock, Suite.test_no_wait_tries_once),
        (ForgetsTheCounter, Suite.test_tokens_grow_over_fifty_hand_overs),
        (FromTheFuture, Suite.test_validity_is_what_the_store_granted_less_the_drift),
        (RenewsAnybody, Suite.test_a_renewal_of_a_stale_grant_is_a_definite_no),
        (RenewsAnybody, Suite.test_somebody_else_leads_after_a_grant_was_taken_away),
        (RenewsNothing, Suite.test_renewal_keeps_it_beyond_several_ttls),
        (RenewsNothing, Suite.test_a_grant_taken_away_on_the_server_is_noticed),
        (RenewsNothing, Suite.test_force_deletes_at_once),
        (RenewsNothing, Suite.test_a_holder_that_is_asked_learns_of_it_and_goes_on),
        (ReleasesAnybody, Suite.test_a_release_is_not_repeated_on_the_next_term),
        (ReleasesNothing, Suite.test_the_holder_shown_is_the_one_that_leads),
        (ReleasesNothing, Suite.test_a_released_leadership_is_over),
        (StaysMarked, Suite.test_a_mark_never_hits_a_later_term),
        (WritesAlways, Suite.test_a_stale_grant_writes_nothing),
        (WritesAlways, Suite.test_a_released_grant_writes_nothing),
        (WritesInAnyOrder, Suite.test_a_delayed_older_write_undoes_nothing),
        (LooksRarely, Suite.test_a_release_wakes_the_next_at_once),
        (CannotBeCancelled, Suite.test_a_cancelled_candidate_ends_soon_and_the_others_are_woken),
        (ElectedLate, Suite.test_a_wait_that_runs_out_leaves_nothing_behind),
    ],
)
def test_a_candidacy_with_a_planted_bug_fails(
    folder: Cluster, bug: type[FileCandidacy], case: Callable[..., None]
) -> None:
    must_fail(folder, type(f"{bug.__name__}-{case.__name__}", (OnFile,), {"kind": bug}), case)


class GivesBackAnybody(FileBackend):
    """Goes by the election's name alone."""

    def give_back(self, receipt: str) -> None:
        election, _ = json.loads(receipt)
        self.evict(election, force=True)


class GivesBackNothing(FileBackend):
    def give_back(self, receipt: str) -> None:
        pass


@pytest.mark.parametrize(
    ("bug", "case", "args"),
    [
        (GivesBackAnybody, Suite.test_a_receipt_of_an_earlier_term_hits_nothing, ["same"]),
        (GivesBackAnybody, Suite.test_a_receipt_of_an_earlier_term_hits_nothing, ["other"]),
        (GivesBackAnybody, Suite.test_it_may_be_given_back_twice, []),
        (GivesBackNothing, Suite.test_a_holder_whose_grant_was_given_back_is_told, []),
        (GivesBackNothing, Suite.test_what_is_no_receipt_is_refused, []),
    ],
)
def test_a_receipt_with_a_planted_bug_fails(
    folder: Cluster, bug: type[FileBackend], case: Callable[..., None], args: list[str]
) -> None:
    must_fail(folder, type(f"{bug.__name__}-{case.__name__}-{args}", (bug,), {}), case, *args)


class TellsNoTermsApart(PollingWatch):
    def next(self, timeout: float) -> View | None:
        view = super().next(timeout)
        if view is not None and view.holder is not None:
            view = replace(view, holder=Holder(view.holder.id))
        return view


class TellsRenewals(PollingWatch):
    def next(self, timeout: float) -> View | None:
        view = super().next(timeout)
        if view is None:
            view = self._view()
            if view.holder is not None:
                view = replace(view, holder=replace(view.holder, key=str(now())))
        return view


class KnowsOnlyChanges(PollingWatch):
    def next(self, timeout: float) -> View | None:
        if self._shown is None:
            super().next(timeout)
        return super().next(timeout)


@pytest.mark.parametrize(
    ("bug", "case"),
    [
        (TellsNoTermsApart, Suite.test_every_term_is_seen_from_the_start),
        (TellsNoTermsApart, Suite.test_two_terms_of_one_id_are_two),
        (TellsRenewals, Suite.test_a_renewal_is_no_change),
        (KnowsOnlyChanges, Suite.test_an_observer_that_comes_late_sees_who_leads_now),
    ],
)
def test_a_watch_with_a_planted_bug_fails(
    folder: Cluster, bug: type[PollingWatch], case: Callable[..., None]
) -> None:
    def watch(self: FileBackend, election: str) -> Watch:
        return bug(partial(self.view, election), POLL)

    must_fail(
        folder, type(f"{bug.__name__}-{case.__name__}", (FileBackend,), {"watch": watch}), case
    )


class ReadsNamesLoosely(FileBackend):
    """Takes names that look alike for one."""

    def candidacy(self, bid: Bid) -> Candidacy:
        return super().candidacy(replace(bid, election=_loose(bid.election)))

    def view(self, election: str) -> View:
        return super().view(_loose(election))


def _loose(name: str) -> str:
    return Path("/", name).resolve().name.lower()


@pytest.mark.parametrize(
    "case",
    [Suite.test_names_that_are_alike_are_different_elections, Suite.test_elections_are_apart],
)
def test_names_taken_loosely_fail(folder: Cluster, case: Callable[..., None]) -> None:
    must_fail(folder, ReadsNamesLoosely, case)


# On Redis, through links that break --------------------------------------------------------------


class CountsFromTheAnswer(RedisCandidacy):
    def acquire(self, deadline: float | None) -> Grant | None:
        grant = super().acquire(deadline)
        return None if grant is None else replace(grant, since=now())

    def renew(self) -> Renewal:
        return replace(super().renew(), since=now())


class NoNewsIsGoodNews(RedisCandidacy):
    def renew(self) -> Renewal:
        try:
            return super().renew()
        except Unreachable:
            return Renewal(now(), self.bid.ttl)


class NoNewsIsBadNews(RedisCandidacy):
    def renew(self) -> Renewal:
        try:
            return super().renew()
        except Unreachable as error:
            raise LeadershipLost(error.message) from error


class DeletesTheKey(RedisCandidacy):
    def release(self) -> None:
        self._links.call("DEL", self.keys.lock)


class ChecksAndThenWrites(RedisCandidacy):
    def write_checkpoint(self, slot: str, value: bytes, seq: int) -> None:
        self._links.call("HSET", self.keys.checkpoint, b"v:" + slot.encode(), value)


class WritesOnce(RedisCandidacy):
    """Says that it has written, also when nobody has answered."""

    def write_checkpoint(self, slot: str, value: bytes, seq: int) -> None:
        try:
            super().write_checkpoint(slot, value, seq)
        except Unreachable:
            return


class GivesUpOnTrouble(RedisCandidacy):
    """Takes an unknown for a no."""

    def acquire(self, deadline: float | None) -> Grant | None:
        try:
            return super().acquire(deadline)
        except Unreachable:
            self.cancel()
            return super().acquire(deadline)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with make_cluster("redis", tmp_path_factory.mktemp("planted")) as cluster:
        yield cluster


@pytest.mark.parametrize(
    ("bug", "case", "args"),
    [
        (
            CountsFromTheAnswer,
            Suite.test_validity_counts_from_before_the_request_was_sent,
            ["replies"],
        ),
        (
            CountsFromTheAnswer,
            Suite.test_validity_counts_from_before_the_request_was_sent,
            ["requests"],
        ),
        (NoNewsIsGoodNews, Suite.test_it_ends_here_in_time_when_contact_is_lost, ["cut"]),
        (NoNewsIsGoodNews, Suite.test_a_waiting_candidate_survives_an_outage_and_wins, []),
        (NoNewsIsBadNews, Suite.test_one_missed_renewal_is_survived, []),
        (NoNewsIsBadNews, Suite.test_renewals_whose_answers_are_lost_are_repeated, []),
        (DeletesTheKey, Suite.test_a_delayed_release_of_an_earlier_term_hits_nothing, ["same"]),
        (DeletesTheKey, Suite.test_a_delayed_release_of_an_earlier_term_hits_nothing, ["other"]),
        (ChecksAndThenWrites, Suite.test_a_write_held_up_on_the_way_hits_no_later_term, []),
        (WritesOnce, Suite.test_a_write_without_an_answer_is_unknown, []),
        (WritesOnce, Suite.test_a_write_whose_connection_breaks_is_tried_again, ["requests"]),
        (GivesUpOnTrouble, Suite.test_a_waiting_candidate_survives_cut_connections, []),
        (GivesUpOnTrouble, Suite.test_an_acquisition_broken_anywhere_is_settled, ["replies"]),
    ],
)
def test_a_candidacy_with_a_planted_bug_fails_through_broken_links(
    redis: Cluster, bug: type[RedisCandidacy], case: Callable[..., None], args: list[str]
) -> None:
    def candidacy(self: RedisBackend, bid: Bid) -> Candidacy:
        return bug(self.target, bid, self.notes)

    name = f"{bug.__name__}-{case.__name__}-{args}"
    must_fail(redis, type(name, (RedisBackend,), {"candidacy": candidacy}), case, *args)


class HidesTheOutage(RedisWatch):
    deaf = False

    def next(self, timeout: float) -> View | None:
        if not self.deaf:
            try:
                return super().next(timeout)
            except Unreachable:
                self.deaf = True
        threading.Event().wait(min(timeout, 0.1))
        return None


@pytest.mark.slow
def test_a_watch_that_hides_an_outage_fails(redis: Cluster) -> None:
    def watch(self: RedisBackend, election: str) -> Watch:
        return HidesTheOutage(self._links, election)

    backend = type("Hides", (RedisBackend,), {"watch": watch})
    must_fail(redis, backend, Suite.test_it_says_that_contact_is_lost_and_found, "cut")


def test_a_name_that_is_never_canonical_fails(redis: Cluster) -> None:
    class Restless(RedisBackend):
        def canonical(self, election: str) -> str:
            return super().canonical(f"{election}/")

    must_fail(redis, Restless, Suite.test_a_canonical_name_is_its_own, ["a"])


def test_a_backend_that_takes_a_refusal_for_silence_fails(redis: Cluster) -> None:
    class Vague(RedisBackend):
        def view(self, election: str) -> View:
            try:
                return super().view(election)
            except Refused as error:
                raise Unreachable(error.message) from error

    must_fail(redis, Vague, Suite.test_wrong_credentials_are_refused)
