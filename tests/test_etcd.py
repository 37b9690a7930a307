"""What the etcd backend does before it has a server: keys, errors, URLs, etcd's API."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from electctl import errors
from electctl.contract.backend import Bid
from electctl.core.elector import connect
from electctl.lab.certificates import make_certificates
from electctl.lab.ports import HeldPort
from electctl_etcd import checkpoint, keys, protocol
from electctl_etcd.client import Client, Endpoint
from electctl_etcd.rpc import describe, grpc, pb

ROUNDABOUT = st.text(min_size=1, max_size=20).filter(lambda text: "\0" not in text)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PROTOCOL_", "GRPC_"))}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env={**clean, **environment},
        check=False,
    )


# Keys --------------------------------------------------------------------------------------------


def test_a_candidates_key_is_the_native_one() -> None:
    """clientv3/concurrency: ``fmt.Sprintf("%s%x", pfx, s.Lease())`` with ``pfx`` = name + "/"."""
    assert (
        keys.candidate_key("jobs/nightly", 0x694D8F1A2B3C4D5E) == b"jobs/nightly/694d8f1a2b3c4d5e"
    )
    assert keys.candidate_key("jobs", 0xABC) == b"jobs/abc"


@pytest.mark.parametrize(
    ("key", "counts"),
    [
        (b"jobs/694d8f1a2b3c4d5e", True),
        (b"jobs/0", True),
        (b"jobs/nightly/694d8f1a2b3c4d5e", False),
        (b"jobs/694D8F1A", False),
        (b"jobs/0694d8f1a", False),
        (b"jobs/abc\n", False),
        (b"jobs/", False),
        (b"job/694d8f1a2b3c4d5e", False),
    ],
)
def test_only_the_names_own_keys_count(key: bytes, counts: bool) -> None:
    assert keys.is_candidate(key, keys.prefix("jobs")) is counts


def test_our_leases_are_known_and_are_valid_for_the_server() -> None:
    made = {keys.new_lease_id() for _ in range(100)}
    assert len(made) == 100
    assert all(keys.ours(lease) and 0 < lease < 2**63 for lease in made)
    assert not keys.ours(0x694D8F1A2B3C4D5E)
    assert not keys.ours(0)


@given(ROUNDABOUT, ROUNDABOUT, ROUNDABOUT, ROUNDABOUT)
def test_our_own_keys_are_apart_and_outside_every_election(
    one: str, other: str, slot: str, another_slot: str
) -> None:
    places = [
        keys.eviction_key(one),
        keys.checkpoint_key(one, slot),
        keys.checkpoint_key(one, ""),
    ]
    assert len(set(places)) == 3
    assert not any(place.startswith(keys.prefix(other)) for place in places)
    if (one, slot) != (other, another_slot):
        assert keys.checkpoint_key(one, slot) != keys.checkpoint_key(other, another_slot)


@pytest.mark.parametrize("name", ["electctl.io", "electctl.io/x", "electctl.io/"])
def test_an_election_among_our_own_keys_is_refused(name: str) -> None:
    with (
        connect("etcd://127.0.0.1:1") as elector,
        pytest.raises(errors.UsageError, match="begins with electctl"),
    ):
        elector.campaign(name, "a", wait=0)


@given(st.integers(1, 2**62), st.integers(1, 2**40), st.binary(max_size=30))
def test_a_checkpoint_comes_back_as_it_was(token: int, seq: int, value: bytes) -> None:
    request = checkpoint.write(b"e/1", token, b"slot", seq, value)
    (put,) = request.success[0].request_txn.success
    assert checkpoint.read(put.request_put.value) == value


@given(
    st.tuples(st.integers(1, 2**62), st.integers(1, 2**40)),
    st.tuples(st.integers(1, 2**62), st.integers(1, 2**40)),
    st.binary(max_size=10),
)
def test_a_checkpoint_is_replaced_unless_it_is_newer(
    stored: tuple[int, int], mine: tuple[int, int], value: bytes
) -> None:
    """The server compares bytes; they must sort as (token, sequence) do."""

    def parts(pair: tuple[int, int]) -> tuple[bytes, bytes]:
        request = checkpoint.write(b"e/1", pair[0], b"slot", pair[1], value)
        inner = request.success[0].request_txn
        (replace,) = inner.failure
        bound: bytes = replace.request_txn.compare[0].value
        written: bytes = inner.success[0].request_put.value
        return written, bound

    assert (parts(stored)[0] < parts(mine)[1]) == (stored <= mine)


# Errors ------------------------------------------------------------------------------------------

MEANING: dict[str, type[errors.ElectctlError]] = {
    "OK": errors.OutcomeUnknown,
    "CANCELLED": errors.Unreachable,
    "UNKNOWN": errors.Unreachable,
    "INVALID_ARGUMENT": errors.UsageError,
    "DEADLINE_EXCEEDED": errors.Unreachable,
    "NOT_FOUND": errors.LeadershipLost,
    "ALREADY_EXISTS": errors.OutcomeUnknown,
    "PERMISSION_DENIED": errors.Refused,
    "UNAUTHENTICATED": errors.Refused,
    "RESOURCE_EXHAUSTED": errors.Unreachable,
    "FAILED_PRECONDITION": errors.Unreachable,
    "ABORTED": errors.Unreachable,
    "OUT_OF_RANGE": errors.OutcomeUnknown,
    "UNIMPLEMENTED": errors.ConfigError,
    "INTERNAL": errors.Unreachable,
    "UNAVAILABLE": errors.Unreachable,
    "DATA_LOSS": errors.Inconclusive,
}


@pytest.mark.parametrize("status", grpc.StatusCode, ids=lambda status: status.name)
def test_every_status_has_a_meaning(status: grpc.StatusCode) -> None:
    error = describe(status, "etcdserver: something\nof it", "10.0.0.1:2379")
    assert isinstance(error, MEANING[status.name])
    assert "10.0.0.1:2379" in error.message
    assert "\n" not in error.message


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        ("INVALID_ARGUMENT", "authentication failed, invalid user ID or password", errors.Refused),
        ("INVALID_ARGUMENT", "user name is empty", errors.Refused),
        ("INVALID_ARGUMENT", "revision of auth store is old", errors.Refused),
        ("INVALID_ARGUMENT", "request is too large", errors.UsageError),
        ("RESOURCE_EXHAUSTED", "mvcc: database space exceeded", errors.Unreachable),
        ("RESOURCE_EXHAUSTED", "received message larger than max", errors.UsageError),
        ("UNAVAILABLE", "no leader", errors.Unreachable),
        ("NOT_FOUND", "requested lease not found", errors.LeadershipLost),
        ("OUT_OF_RANGE", "mvcc: required revision has been compacted", errors.OutcomeUnknown),
    ],
)
def test_what_etcd_says_has_a_meaning(
    status: str, text: str, kind: type[errors.ElectctlError]
) -> None:
    """Texts of etcdserver/api/v3rpc/rpctypes/error.go."""
    error = describe(grpc.StatusCode[status], f"etcdserver: {text}", "10.0.0.1:2379")
    assert isinstance(error, kind)
    assert error.hint or kind is errors.LeadershipLost or kind is errors.OutcomeUnknown


# URLs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "kind", "text"),
    [
        ("etcd://127.0.0.1:1/path", errors.UsageError, "has no path"),
        ("etcd://127.0.0.1:1?ca=/x", errors.UsageError, "is for TLS"),
        ("etcds://127.0.0.1:1?cert=/x", errors.UsageError, "both"),
        ("etcds://127.0.0.1:1?ca=/nowhere/ca.crt", errors.ConfigError, "cannot be used"),
        ("etcd://127.0.0.1:1?cert_file=/x", errors.UsageError, "no option"),
    ],
)
def test_a_bad_url_is_refused_before_any_contact(
    url: str, kind: type[errors.ElectctlError], text: str
) -> None:
    with pytest.raises(kind, match=text) as caught:
        connect(url)
    assert caught.value.hint


def test_a_closed_port_is_unreachable_and_the_cause_is_said() -> None:
    port = HeldPort()
    with connect(f"etcd://127.0.0.1:{port.number}") as elector:
        with pytest.raises(errors.Unreachable, match=": Failed to connect") as caught:
            elector.holder("nightly")
        candidacy = elector.backend.candidacy(Bid("nightly", "a", 3.0, 0.5))
        with pytest.raises(errors.Unreachable):
            candidacy.acquire(None)
        assert not candidacy.contacted
        with pytest.raises(errors.Unreachable):
            candidacy.release()  # the grant may have been sent
        candidacy.close()
    assert caught.value.hint
    port.release()


def test_a_closed_backend_is_unreachable() -> None:
    elector = connect("etcd://127.0.0.1:1")
    elector.close()
    with pytest.raises(errors.Unreachable, match="closed here"):
        elector.holder("nightly")


# etcd's API --------------------------------------------------------------------------------------


def of_etcd3(name: str) -> bytes:
    """The descriptors that etcd3's generated code holds, which is not run for it."""
    package = find_spec("etcd3")
    assert package is not None
    assert package.origin is not None
    generated = Path(package.origin).parent / "etcdrpc" / f"{name}_pb2.py"
    for node in ast.walk(ast.parse(generated.read_text())):
        for keyword in node.keywords if isinstance(node, ast.Call) else []:
            if keyword.arg == "serialized_pb":
                assert isinstance(keyword.value, ast.Call)
                return bytes(ast.literal_eval(keyword.value.args[0]), "latin1")
    raise LookupError(f"{generated} holds no descriptors")


@pytest.mark.parametrize("name", protocol.FILES)
def test_the_descriptors_are_those_of_etcd3(name: str) -> None:
    if os.environ.get("ELECTCTL_UPDATE_SNAPSHOTS"):
        place = Path(protocol.__file__).parent / "api" / f"{name}.binpb"
        place.write_bytes(of_etcd3(name))
    assert protocol.descriptors(name) == of_etcd3(name)


def test_a_message_or_call_that_is_not_there_is_named() -> None:
    with pytest.raises(AttributeError, match="no message Nonsense"):
        _ = pb.Nonsense
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        calls = pb.calls(channel, "KV")
        with pytest.raises(AttributeError, match="no call Nonsense"):
            _ = calls.Nonsense


def test_it_imports_without_warnings_and_leaves_the_environment_alone() -> None:
    done = run(
        "import os, sys; before = dict(os.environ)\n"
        "import electctl; electctl.connect('etcd://127.0.0.1:1').close()\n"
        "assert before == dict(os.environ), set(before) ^ set(os.environ)\n"
        "assert 'etcd3' not in sys.modules\n"
    )
    assert (done.returncode, done.stderr) == (0, "")


#: Both sides of a transaction, as etcd would get and send it.
USE = (
    "import electctl; electctl.connect('etcd://127.0.0.1:1').close()\n"
    "from electctl_etcd import requests; from electctl_etcd.rpc import pb\n"
    "sent = requests.txn([requests.created_at(b'k', 7)], [requests.put(b'k', b'v', 9)])\n"
    "assert pb.TxnRequest.FromString(sent.SerializeToString()) == sent\n"
)
#: Every implementation of protobuf that is there reads etcd3's own code only if it is "python".
PYTHON = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
ETCD3 = (
    "import warnings; warnings.simplefilter('ignore')\n"
    "import etcd3.etcdrpc; etcd3.etcdrpc.RangeRequest(key=b'k').SerializeToString()\n"
)
#: Stubs of another version of etcd's API, where everybody's stubs are: in the default pool.
OTHERS = (
    "from google.protobuf import descriptor_pb2, descriptor_pool, message_factory\n"
    "file = descriptor_pb2.FileDescriptorProto(name='rpc.proto', package='etcdserverpb')\n"
    "file.message_type.add(name='TxnRequest').field.add(\n"
    "    name='other', number=1, type=descriptor_pb2.FieldDescriptorProto.TYPE_STRING, label=1)\n"
    "pool = descriptor_pool.Default(); pool.Add(file)\n"
    "name = pool.FindMessageTypeByName('etcdserverpb.TxnRequest')\n"
    "message_factory.GetMessageClass(name)(other='x').SerializeToString()\n"
)


@pytest.mark.parametrize(
    ("code", "environment"),
    [
        pytest.param("import google.protobuf.message\n" + USE, {}, id="protobuf was there"),
        pytest.param("import grpc\n" + USE, {}, id="grpc was there"),
        pytest.param(USE, PYTHON, id="pure Python"),
        pytest.param(OTHERS + USE, {}, id="after other stubs"),
        pytest.param(USE + OTHERS, {}, id="before other stubs"),
        pytest.param(ETCD3 + USE, PYTHON, id="after etcd3"),
        pytest.param(USE + ETCD3, PYTHON, id="before etcd3"),
    ],
)
def test_it_goes_with_whatever_else_uses_protobuf(code: str, environment: dict[str, str]) -> None:
    done = run(code, **environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_programs_own_messages_stay_fast() -> None:
    """protobuf chooses its implementation once for the process."""
    code = "from google.protobuf.internal import api_implementation as chosen; print(chosen.Type())"
    alone, beside = run(code), run(USE + code)
    assert beside.stdout == alone.stdout
    assert beside.stderr == ""


def test_a_broken_connection_prints_nothing_by_itself(tmp_path: Path) -> None:
    """gRPC's core writes its own lines to stderr unless told not to."""
    make_certificates(tmp_path)
    done = run(
        "import electctl\n"
        f"with electctl.connect('etcds://127.0.0.1:1?ca={tmp_path}/ca.crt') as elector:\n"
        "    try: elector.holder('nightly')\n"
        "    except electctl.errors.Unreachable: print('unreachable')\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "unreachable\n", "")


class TestTwoThreads:
    """Both fail on one connection at the same time: it is left once, and replaced once."""

    def test_the_next_member_is_not_passed_over(self) -> None:
        client = Client(("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"))
        try:
            failed = client.endpoint
            threads = [Thread(target=client.leave, args=(failed,)) for _ in "ab"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert client.endpoint.name == "127.0.0.1:2"
        finally:
            client.close()

    def test_one_connection_takes_its_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        client = Client(("127.0.0.1:1",))
        failed, connect = client.endpoint, client._connect
        made: list[Endpoint] = []
        second = Event()

        def slowly(name: str) -> Endpoint:
            made.append(connect(name))
            if len(made) > 1:
                second.set()
            second.wait(0.2)  # which it never is, or a second one is made beside this
            return made[-1]

        monkeypatch.setattr(client, "_connect", slowly)
        with ThreadPoolExecutor(2) as pool:
            asked = [pool.submit(client._replaced, 0, failed, True) for _ in "ab"]
            assert [each.result() for each in asked] == [True, True]
        assert made == [client.endpoint]
        client.close()
