"""One leader at a time, and tokens that only grow.

What this leaves out: exclusion while the store itself misbehaves. The drills show that.
"""

from __future__ import annotations

import itertools
import threading

import pytest

from electctl.errors import DuplicateId, ElectctlError, NotElected
from electctl.testing.cases.base import Cases
from electctl.testing.stage import SLACK, Stage, Term, Witness, check_terms, let_pass


class Exclusion(Cases):
    """Nobody fails, nothing is broken: the promises of an ordinary day."""

    def test_one_at_a_time_of_twenty_candidates(self, stage: Stage) -> None:
        """Twenty clients at once: each leads once, never two together, each token greater."""
        witness = Witness()
        errors: list[Exception] = []
        gate = threading.Barrier(20)

        def serve(number: int) -> None:
            try:
                elector = stage.open()
                gate.wait(30)
                with (
                    elector.campaign(
                        stage.election, f"c{number}", ttl=stage.ttl, wait=60
                    ) as leadership,
                    witness.inside(leadership),
                ):
                    let_pass(0.005)
                    leadership.check()
            except (ElectctlError, AssertionError) as error:
                errors.append(error)

        threads = [threading.Thread(target=serve, args=(n,), daemon=True) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
            assert not thread.is_alive(), "a candidate hangs"
        assert not errors, errors[0]
        assert {term.id for term in witness.terms} == {f"c{n}" for n in range(20)}
        check_terms(witness.terms, tokens=stage.has_tokens)

    def test_one_at_a_time_of_real_processes(self, stage: Stage) -> None:
        """Four processes, three terms each, by the machine's one clock."""
        processes = {f"p{n}": stage.process(f"p{n}", terms=3) for n in range(4)}
        terms = []
        for name, process in processes.items():
            began: dict[str, object] = {}
            while line := process.next():
                if line["event"] == "elected":
                    began = line
                elif line["event"] == "stopped":
                    token, at, end = line["token"], began["at"], line["at"]
                    assert token is None or isinstance(token, int)
                    assert isinstance(at, float)
                    assert isinstance(end, float)
                    terms.append(Term(name, token, at, end))
        assert len(terms) == 12
        check_terms(terms, tokens=stage.has_tokens)

    def test_the_next_leads_after_the_leader_was_killed(self, stage: Stage) -> None:
        """SIGKILL gives nothing back: the store's expiry must do it, and the token grow."""
        process = stage.process("doomed", hold=60)
        elected = process.until("elected")
        process.kill()
        token = stage.lead("next").token
        if stage.has_tokens:
            assert isinstance(elected["token"], int)
            assert token is not None
            assert token > elected["token"]

    def test_tokens_grow_over_fifty_hand_overs(self, stage: Stage) -> None:
        """Also over new clients and over ids used again."""
        tokens = []
        electors = [stage.open(), stage.open()]
        for number in range(50):
            elector = stage.open() if number % 10 == 9 else electors[number % 2]
            with elector.campaign(
                stage.election, f"c{number % 3}", ttl=stage.ttl, wait=10
            ) as leadership:
                tokens.append(leadership.token)
        if stage.has_tokens:
            known = [token for token in tokens if token is not None]
            assert len(known) == 50
            assert all(a < b for a, b in itertools.pairwise(known)), known
        else:
            assert tokens == [None] * 50

    def test_the_holder_shown_is_the_one_that_leads(self, stage: Stage) -> None:
        """Id and token in the store's view are those that the leader was told."""
        assert stage.elector.holder(stage.election) is None
        leadership = stage.lead("a")
        holder = stage.elector.holder(stage.election)
        assert holder is not None
        assert (holder.id, holder.token) == ("a", leadership.token)
        assert holder.can_be_asked
        if holder.expires_in is not None:
            assert 0 < holder.expires_in <= leadership.timing.ttl
        leadership.release()
        assert stage.elector.holder(stage.election) is None

    def test_elections_are_apart(self, stage: Stage) -> None:
        """Leading one election, or one whose name begins alike, takes no other."""
        spelled = [stage.election + more for more in ("", "/", "/x", "x", ":", "-1", " ")]
        # Some of them may be one to the store (:mod:`electctl.testing.cases.names`).
        names = [*dict.fromkeys(map(stage.elector.backend.canonical, spelled))]
        with_tokens = [stage.lead("a", election=name) for name in names]
        assert [leadership.candidate for leadership in with_tokens] == ["a"] * len(names)
        for name in names:
            holder = stage.elector.holder(name)
            assert holder is not None
            assert holder.id == "a"

    def test_an_id_in_use_is_not_elected_twice(self, stage: Stage) -> None:
        """Where the scheme can tell it says so; nowhere are there two leaders of one id."""
        first = stage.lead("same")
        with pytest.raises((DuplicateId, NotElected)):
            stage.open().campaign(stage.election, "same", ttl=stage.ttl, wait=0)
        assert first.remaining() > 0
        holder = stage.elector.holder(stage.election)
        assert holder is not None
        assert holder.token == first.token
        first.release()
        second = stage.lead("same", within=SLACK + stage.wake_up)
        if first.token is not None and second.token is not None:
            assert second.token > first.token

    def test_a_release_is_not_repeated_on_the_next_term(self, stage: Stage) -> None:
        """Releasing twice, and under an id that leads again, hits nothing."""
        first = stage.lead("same")
        first.release()
        second = stage.lead("same")
        first.release()
        first.candidacy.release()
        stage.must_not_win("rival")
        second.check()
        assert second.candidacy.renew().ttl > 0
