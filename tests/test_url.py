"""Backend URLs: what is taken, what is refused, and that no password is ever shown."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from electctl.contract.url import BackendURL, mask_text
from electctl.errors import ConfigError, UsageError

parse = BackendURL.parse


@pytest.fixture(autouse=True)
def _no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ELECTCTL_PASSWORD", raising=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://h", BackendURL("redis", (("h", None),))),
        ("redis://h:1/0", BackendURL("redis", (("h", 1),), path="0")),
        ("redis://u:p%40%3A@h/0", BackendURL("redis", (("h", None),), "u", "p@:", "0")),
        ("redis://:p@h", BackendURL("redis", (("h", None),), None, "p")),
        ("redis://u@h", BackendURL("redis", (("h", None),), "u")),
        ("etcd://a:1,b:2,[::1]:3", BackendURL("etcd", (("a", 1), ("b", 2), ("::1", 3)))),
        ("zk://a,b/root/child", BackendURL("zk", (("a", None), ("b", None)), path="root/child")),
        ("sqlite:///var/x.db", BackendURL("sqlite", path="var/x.db")),
        (
            "dynamodb://table?region=eu",
            BackendURL("dynamodb", (("table", None),), options={"region": "eu"}),
        ),
        ("redis+sentinel://h/svc/0", BackendURL("redis+sentinel", (("h", None),), path="svc/0")),
        (
            "redis://h/0?a=1&b=",
            BackendURL("redis", (("h", None),), path="0", options={"a": "1", "b": ""}),
        ),
        ("redis://h/a%20b", BackendURL("redis", (("h", None),), path="a b")),
        (
            "rediss://h?ca=/etc/ca.pem",
            BackendURL("rediss", (("h", None),), options={"ca": "/etc/ca.pem"}),
        ),
        ("local:", BackendURL("local")),
        ("local:?idle=5s", BackendURL("local", options={"idle": "5s"})),
        ("k8s:///ns", BackendURL("k8s", path="ns")),
    ],
)
def test_what_is_taken(text: str, expected: BackendURL) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "starts with its scheme"),
        ("h:6379", "must be followed by //"),
        ("127.0.0.1:6379", "starts with its scheme"),
        ("user:secret@h", "must be followed by //"),
        ("REDIS://h", "starts with its scheme"),
        ("://h", "starts with its scheme"),
        ("redis:h", "must be followed by //"),
        ("redis:/h", "must be followed by //"),
        ("redis://h:0", "port 0"),
        ("redis://h:65536", "port 65536"),
        ("redis://h:-1", "not host or host:port"),
        ("redis://h:x", "not host or host:port"),
        ("redis://a,,b", "not host or host:port"),
        ("redis://a,", "not host or host:port"),
        ("redis://[::1", "not host or host:port"),
        ("redis://::1:6379", "not host or host:port"),
        ("redis://h/0?x", "name=value"),
        ("redis://h/0?&", "name=value"),
        ("redis://h/0?a=1&a=2", "given twice"),
        ("redis://h /0", "white space"),
        ("redis://h\n", "white space"),
        ("redis://h/\x1b[31m", "white space or control"),
    ],
)
def test_what_is_refused(text: str, cause: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert cause in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 2
    assert "secret" not in caught.value.message


def test_an_unknown_option_is_refused_with_the_nearest_name() -> None:
    url = parse("rediss://h?cert=x&kye=y")
    with pytest.raises(UsageError) as caught:
        url.check_options({"cert": "", "key": ""})
    assert "'kye'" in caught.value.message
    assert caught.value.hint == "did you mean key?"


def test_the_password_may_come_from_the_environment_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_text("from file\n")
    monkeypatch.setenv("ELECTCTL_PASSWORD", "from env")
    assert parse("redis://u@h").password == "from env"
    assert parse("redis://u:own@h").password == "own"
    assert parse(f"redis://u@h?password_file={file}").password == "from file"
    assert "password_file" not in parse(f"redis://u@h?password_file={file}").options
    with pytest.raises(UsageError, match="both a password and a password_file"):
        parse(f"redis://u:own@h?password_file={file}")
    with pytest.raises(ConfigError, match=r"cannot be read: No such file or directory$"):
        parse(f"redis://u@h?password_file={file}.missing")
    with pytest.raises(UsageError, match="no option") as slip:
        parse(f"redis://u@h?pasword_file={file}").check_options({})
    assert slip.value.hint == "did you mean password_file?"
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="cannot be read: it is not UTF-8"):
        parse(f"redis://u@h?password_file={file}")


# The password's letters occur nowhere else in a URL, so that finding one is finding a leak.
secrets = st.text(st.characters(min_codepoint=0x400, max_codepoint=0x4FF), min_size=1, max_size=20)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@given(secrets, names, st.dictionaries(names, names, max_size=3), names)
def test_no_way_of_showing_a_url_shows_its_password(
    secret: str, user: str, options: dict[str, str], path: str
) -> None:
    assume(not set(secret) & set(user + path + "".join([*options, *options.values()])))
    url = BackendURL("redis", (("h", 1),), user, secret, path, {**options, "password": secret})
    shown = [str(url), repr(url), f"{url}", url.masked(), url.without_password()]
    for text in shown:
        assert not set(secret) & set(text)
        assert quote(secret) not in text


@given(names, names, st.one_of(st.none(), secrets), st.dictionaries(names, names, max_size=3))
def test_without_password_is_still_a_url_and_the_same_one(
    user: str, path: str, secret: str | None, options: dict[str, str]
) -> None:
    options.pop("password_file", None)
    url = BackendURL("redis", (("h", 1), ("::1", None)), user, secret, path, options)
    again = parse(url.without_password())
    assert (again.user, again.hosts, again.path) == (url.user, url.hosts, url.path)
    assert again.password is None
    public = {k: v for k, v in options.items() if k in again.options}
    assert again.options == public


@given(st.text(max_size=60))
def test_any_text_is_a_url_or_a_clear_refusal(text: str) -> None:
    assume("password_file" not in text)
    refusal = None
    try:
        assert parse(text).scheme
    except UsageError as error:
        refusal = error
    assert refusal is None or refusal.hint


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("cannot reach redis://u:s3cret@h:1/0!", "cannot reach redis://u:***@h:1/0!"),
        ("redis://:s3@cr:et@h", "redis://:***@h"),
        ("a redis://u:s3cret@h and redis://:s3cret@k", "a redis://u:***@h and redis://:***@k"),
        ("x://h?password=s3cret&db=1", "x://h?password=***&db=1"),
        ("x://h?a=b&sentinel_password=s3cret", "x://h?a=b&sentinel_password=***"),
        ("user:s3cret@h", "user:***@h"),
        ("nothing to hide: at 12:30, host:6379", "nothing to hide: at 12:30, host:6379"),
        ("redis://user@h:1/0", "redis://user@h:1/0"),
    ],
)
def test_foreign_messages_are_masked(text: str, masked: str) -> None:
    assert mask_text(text) == masked


@pytest.mark.parametrize("text", ["local:", "local:?idle=5s"])
def test_a_url_without_a_place_is_shown_as_it_is_written_and_has_no_password(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELECTCTL_PASSWORD", "s3cret")
    assert parse(text).masked() == parse(text).without_password() == text
    assert parse(text).password is None
