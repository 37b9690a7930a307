"""Frames: whatever the stream is cut into, and whatever it holds.

What this does not show: what a server does with it; see test_raft_server.py.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from electctl.raft.pure.codec import Decoder, Malformed
from electctl.raft.pure.commands import Enter, Entered, Save
from electctl.raft.pure.messages import Append, Entry
from electctl.raft.pure.requests import Answer, Applied, Request, Submit
from electctl.raft.pure.wire import (
    FROM_CLIENT,
    FROM_PEER,
    HELLO,
    HELLO_LIMIT,
    REPLY_TO_HELLO,
    TO_CLIENT,
    VERSION,
    ClientHello,
    Farewell,
    Framer,
    NodeStatus,
    PeerHello,
    StatusAsked,
    Welcome,
    frame,
)

STATUS = NodeStatus(3, 1, (1, 2, 3), "leader", 4, 1, True, 9, 9, 9, 0, 2, 1, (2,))
SAMPLES: list[tuple[Decoder, object]] = [
    (HELLO, ClientHello("host_1é")),
    (HELLO, PeerHello(1, 2, (1, 2, 3), "ab" * 16)),
    (REPLY_TO_HELLO, Welcome(2, (1, 2, 3), "cd" * 16)),
    (REPLY_TO_HELLO, Farewell("no")),
    (FROM_CLIENT, Request(7, Submit(Enter(3, 1, "nightly", "worker-1")))),
    (FROM_CLIENT, StatusAsked(3)),
    (TO_CLIENT, Answer(7, Applied(Entered(None)))),
    (TO_CLIENT, STATUS),
    (FROM_PEER, Append(3, 7, 2, (Entry(8, 3, Save(1, 8, 2, "s", b"\0\xff", 3)),), 6)),
]
STREAM = b"".join(frame(value) for _, value in SAMPLES)


@pytest.mark.parametrize(("decoder", "value"), SAMPLES, ids=lambda x: type(x).__name__)
def test_each_kind_of_message_survives_the_way(decoder: Decoder, value: object) -> None:
    (body,) = Framer(1000).feed(frame(value))
    assert decoder.decode(body) == value


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.lists(st.integers(1, len(STREAM) - 1), max_size=20))
def test_it_does_not_matter_how_the_stream_is_cut(places: list[int]) -> None:
    framer = Framer(1000)
    bodies: list[bytes] = []
    cuts = [0, *sorted(set(places)), len(STREAM)]
    for start, end in pairwise(cuts):
        bodies += framer.feed(STREAM[start:end])
    assert framer.kept == 0
    found = [decoder.decode(body) for (decoder, _), body in zip(SAMPLES, bodies, strict=True)]
    assert found == [value for _, value in SAMPLES]


def test_a_frame_that_is_too_long_is_refused_before_it_is_kept() -> None:
    framer = Framer(1000)
    with pytest.raises(Malformed, match="1001 bytes where 1 to 1000"):
        framer.feed((1001).to_bytes(4, "big") + bytes((VERSION,)))
    with pytest.raises(Malformed, match="0 bytes"):
        Framer(1000).feed(bytes(5))


def test_the_first_frame_has_a_limit_of_its_own() -> None:
    framer = Framer(2 * HELLO_LIMIT, first=HELLO_LIMIT)
    long = frame(ClientHello("x" * HELLO_LIMIT))
    with pytest.raises(Malformed, match=f"1 to {HELLO_LIMIT} are"):
        framer.feed(long)
    framer = Framer(2 * HELLO_LIMIT, first=HELLO_LIMIT)
    assert len(framer.feed(frame(ClientHello("x")) + long)) == 2


def test_another_version_is_named() -> None:
    with pytest.raises(Malformed, match=f"version 9 of the protocol; this is version {VERSION}"):
        Framer(1000).feed((7).to_bytes(4, "big") + bytes((9,)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b'["ClientHello"]',
        b'["ClientHello",1]',
        b'["ClientHello","\\ud800"]',
        b'["ClientHello","\xed\xa0\x80"]',
        b'["ClientHello","x"',
        '["ClientHello","x"]'.encode("utf-16"),
        b'["PeerHello",-1,2,[1,2],"x"]',
        b'["PeerHello",1,2,[1,true],"x"]',
        b"[" * 50_000,
        b"9" * 50_000,
        b'["Request",1,["Renew",1]]',
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_greeting_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        HELLO.decode(body)


@settings(deadline=None, max_examples=500, derandomize=True)
@given(st.data())
def test_a_mutated_stream_gives_messages_or_is_malformed(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(STREAM) - 1))
    length = data.draw(st.integers(0, 8))
    mutated = STREAM[:at] + data.draw(st.binary(max_size=8)) + STREAM[at + length :]
    framer = Framer(1000)
    try:
        for (decoder, _), body in zip(SAMPLES, framer.feed(mutated), strict=False):
            value = decoder.decode(body)
            assert decoder.decode(Framer(1000).feed(frame(value))[0]) == value
    except Malformed:
        return
    assert framer.kept <= 1000 + 4
