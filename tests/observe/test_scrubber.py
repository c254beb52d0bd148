"""Secrets are removed, and everything else stays readable."""

import re
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from urllib.parse import unquote, urlsplit

import pytest

from service.observe import scrubber
from service.observe.scrubber import MEMBERS, REMOVED, plain, query, source, text
from service.web import token_file

S = "hunter2-x9"


class Account:
    def __init__(self) -> None:
        self.name = "ann"
        self.password = S
        self.nested = {"Authorization": f"Bearer {S}"}


class Login(NamedTuple):
    user: str
    password: str


class Loud(str):
    def __str__(self) -> str:
        return S


@pytest.mark.parametrize(
    "value",
    [
        {"password": S}, {"a": [{"b": {"api_key": S}}]}, {"X-Auth-Token": S, "Set-Cookie": f"session={S}"},
        {b"secret": S}, [("Authorization", f"Basic {S}")], ["program", "--password", S], ["program", f"--token={S}"],
        Account(), {"sessionid": S}, {"csrf_token": S}, {"dsn": f"https://{S}@sentry/1"}, ("pin", S), Loud("x"),
        {"pw": S}, {"db_pw": S}, {"passcode": S}, {"bearer": S}, {"key": S}, ["curl", "-u", f"ann:{S}"],
        ["curl", "-sSu", f"ann:{S}"],
        subprocess.CalledProcessError(1, ["mysql", "--password", S, "db"]),
        subprocess.CalledProcessError(1, ["curl", "--user", f"ann:{S}", "https://h/"]),
        Login("ann", S), urlsplit(f"redis://u:{S}@h/0"), {"netloc": f"u:{S}@h"},
        subprocess.CalledProcessError(1, f"curl -u ann:{S} https://h/"), {"body": f"<password>{S}</password>"},
    ],
)  # fmt: skip
def test_a_value_under_the_name_of_a_secret_is_removed(value: Any) -> None:
    assert S not in str(plain(value))


@pytest.mark.parametrize(
    "shown",
    [
        f"password={S}", f"password: {S}", f"PASSWORD = '{S}'", f'{{"password": "{S}"}}', f"{{'api_key': '{S}'}}",
        f'{{\\"token\\": \\"{S}\\"}}', f"Authorization: Bearer {S}", f"Authorization: Digest username=u, response={S}",
        f"Cookie: a=b; session={S}", f"bearer {S}", f"redis://:{S}@host:6379/0", f"postgres://u:p@{S}@host/db",
        f"https://{S}@sentry.example/1", f"mysql --password {S} db", f"X-Api-Key: {S}", f"secret={S}&a=b",
        f"Account(name='ann', password='{S}')", f'password="two words {S}"', f"-----BEGIN RSA PRIVATE KEY-----\n{S}\n",
        f"eyJhbGciOiJI.eyJzdWIiOiIx.{S}", f"AWS_SECRET_ACCESS_KEY={S}", f"client_secret => {S}",
        f"db_pass={S}", f"DBPASS: {S}", f"mysql --pass {S} db", f"mysql --db-pass {S}", f"signing_key={S}",
        f"X-Auth: {S}", f"X-Auth-Key: {S}",
        f"{{'X-Api-Key': b'{S}'}}", f"mysql://u:p/{S}@h/db", f"secret=a,b,{S}", f"pw={S}", f"passcode: {S}",
        str(subprocess.CalledProcessError(1, ["mysql", "--password", S, "db"])), f'["mysql", "--db-pass", "{S}"]',
        f'{{\\"cmd\\": [\\"mysql\\", \\"--password\\", \\"{S}\\"]}}', f"(b'mysql', b'--token', b'{S}')",
        str(subprocess.CalledProcessError(1, ["curl", "-u", f"ann:{S}"])), f"curl -u ann:{S} https://h/",
        f"curl --user ann:{S}", f"curl --proxy-user=ann:{S}", f"curl -u 'ann:two words {S}'", f"curl -U ann:{S}",
        f"<password>{S}</password>", f'<wsse:Password Type="text">\n{S}</wsse:Password>',
        f"curl -uann:{S}", f"curl -su ann:{S}",
        f"<db-password><![CDATA[{S}]]></db-password>",
        f"404 Not Found for url: https://h/?a=b&key={S}", f"Max retries exceeded with url: /x?sig={S} (refused)",
        f"/ui/sign-in?code={S}", str(urlsplit(f"redis://u:{S}@h/0")),
    ],
)  # fmt: skip
def test_a_secret_inside_a_text_is_removed(shown: str) -> None:
    assert S not in text(shown)
    assert S not in str(plain({"note": [shown]}))


@pytest.mark.parametrize(
    "shown",
    [
        "no order 17",
        "https://example.test/a?b=c",
        "ann@example.test",
        "the session has ended",
        "a tokenizer",
        "basic facts",
        "http://example.test:8080/users/ann@example.test",
        "a pwned machine: yes",
        "the first pass: 12 of 13",
        "mysql -u root db",
        "scan -u http://h/",
        "--user ann: unknown",
        "a non-unique key: 17",
        "<b>bold</b>",
        "<Session object at 0x7f> is closed: <Engine object at 0x8f>",
        "token -> user 5 <b>",
        "https://example.test/a?keyword=b&signal=c",
    ],
)
def test_what_is_no_secret_stays(shown: str) -> None:
    assert text(shown) == shown


@pytest.mark.parametrize(
    "given", [f"token={S}", f"a=1&%74oken={S}", f"API-KEY={S}&x", f"key={S}", f"next=https://u:{S}@h/", f"code={S}"]
)
def test_a_query_keeps_its_names_and_loses_its_secrets(given: str) -> None:
    assert S not in unquote(query(given))
    assert query("a=b&c=d%20e") == "a=b&c=d+e"


def test_source_code_stays_readable() -> None:
    assert source("    password = request.form['password']") == "    password = request.form['password']"
    for line in (
        f'connect(user="u", password="{S}")',
        f'get("https://h/?token={S}")',
        f'get("/?key={S}")',
        f'redis("redis://:{S}@h")',
    ):
        assert S not in source(line)


@pytest.mark.parametrize(
    "name",
    [
        "db_pass", "DBPASS", "smtp_pass", "user_pass", "--pass", "encryption_key", "signing_key", "fernet_key",
        "auth_key", "X-Auth-Key", "X-Auth", "proxy_auth", "API_KEY", "accessKey",
    ],
)  # fmt: skip
def test_names_of_secrets_are_known(name: str) -> None:
    assert scrubber.is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "compass", "passenger", "bypass", "author", "keyboard", "monkey", "overpass", "encompass", "passed",
        "pass_count", "sort_key", "Idempotency-Key", "oauth_version",
    ],
)  # fmt: skip
def test_names_of_what_is_no_secret_are_known(name: str) -> None:
    assert not scrubber.is_secret(name)
    assert text(f"{name}: {S}") == f"{name}: {S}"


def test_a_token_of_this_service_is_no_ones_to_read(tmp_path: Path) -> None:
    token = token_file.add(tmp_path / "tokens", "ann", "read")
    assert text(f"used {token} by mistake") == f"used {REMOVED} by mistake"
    assert token not in str(plain({"note": token})) + source(f'get("{token}")')


def test_what_follows_a_secret_stays() -> None:
    assert text(f"token={S},user=ann, {{'secret': b'{S}', 'a': 1}}") == (
        f"token={REMOVED},user=ann, {{'secret': {REMOVED}, 'a': 1}}"
    )


def test_a_secret_at_the_cut_is_not_told_by_half() -> None:
    shown = text("x" * (scrubber.TEXT_LIMIT - 12) + f" password={S}")
    assert "hunter" not in shown


KEY = "-----BEGIN RSA PRIVATE KEY-----\n" + "K" * 64 * 25 + "\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("filling", "secret"),
    [("a line\n", KEY), ("a line\n", KEY.replace("K" * 64, "K" * 63 + "\n")), ("words, ", f"password={'hunter' * 9} ")],
)
def test_of_a_long_text_the_end_tells_no_secret_by_half(filling: str, secret: str) -> None:
    for below in range(0, scrubber.MARGIN + 3000, 31):
        shown = scrubber.end(filling * 2000 + secret + "below, " * (below // 7) + "the end", 2000)
        assert "KKK" not in shown and "nter" not in shown
        assert shown.endswith("the end") and len(shown) <= 2000


def test_a_text_that_fits_is_shown_from_its_beginning() -> None:
    assert scrubber.end(f"pw=x\npw={S}", 20) == f"pw={REMOVED}"
    assert scrubber.end("one\ntwo", 7) == "one\ntwo"
    assert scrubber.end("one\ntwo", 6) == "two"
    assert scrubber.end("K" * 64 + "\n-----END PRIVATE KEY-----\nbelow", 2000) == f"{REMOVED}\nbelow"
    told = "Traceback\n  if 'PRIVATE KEY-----' not in pem:\nValueError: it is no key"
    assert scrubber.end(told, 2000) == told


def test_everything_is_bounded() -> None:
    assert len(plain(list(range(10_000)))) == MEMBERS + 1
    assert len(plain(dict.fromkeys(range(10_000)))) == MEMBERS + 1
    assert len(plain("x" * 10_000)) < 1100
    nested: list[Any] = []
    for _ in range(1000):
        nested = [nested]
    assert str(plain(nested)).count("[") <= 5
    assert plain({"a": b"x" * 100}) == {"a": "<100 bytes>"}


@pytest.mark.parametrize(
    "shown",
    ["password" * 1000, "a://" * 2000, "bearer " * 1000, 'password="' + "\\" * 8000, "--a-" * 2000, "x" * 10_000],
)
def test_no_text_takes_long(shown: str) -> None:
    began = time.process_time()
    text(shown)
    assert time.process_time() - began < 0.05


ATOMS = (
    "password", "token", "--a-token ", "--", "a-", " ", "\n", "=", "a://", "://", "a:b", "@", "bearer ", "eyJ", "eyJ-",
    "eyJaaaaa.", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "-----END ", "cookie:", 'password="', "password=\\",
    "secret=a,", "db_pass", "sbx_", "auth_key", "'", "\\", "?token=", "aaaa,", "a://b:/",
    "-u ", "-u '", "-u a:", "--user=", "--password', ", "<password>", "<a:", "<password ", "</", "<![CDATA[",
)  # fmt: skip
LONG = 32 * 1024


ALL = (*scrubber._BY_HEADER, *scrubber._BY_LOOKS, *scrubber._BY_NAME, *scrubber._BY_LITERAL)


def is_quick(pattern: re.Pattern[str], shown: str) -> bool:
    """Quick in one of three tries, by the processor's time: the machine may be busy."""
    for _ in range(3):
        began = time.process_time()
        pattern.sub("", shown)
        if time.process_time() - began < 0.05:
            return True
    return False


@pytest.mark.parametrize(
    "pattern",
    [
        scrubber._NAME, scrubber._QUERY_NAME,
        *(re.compile(each) for each, _ in ALL),
    ],
    ids=lambda pattern: pattern.pattern[-30:],
)  # fmt: skip
def test_no_pattern_takes_long_even_for_long_and_hostile_texts(pattern: re.Pattern[str]) -> None:
    hostile = [(atom * LONG)[:LONG] for atom in ATOMS]
    hostile += [
        (one + (other * LONG))[:LONG]
        for one in ("password", "<password>", "--password ", "a://b:", "eyJaaaaaa", "cookie:")
        for other in ATOMS
    ]
    assert not [shown[:40] for shown in hostile if not is_quick(pattern, shown)]


@pytest.mark.parametrize("shown", [f"id=eyJhbGciOiJI.eyJzdWIiOiIx.{S}", f"x-eyJhbGciOiJI.eyJzdWIiOiIx.{S} and more"])
def test_a_token_is_found_at_the_end_of_a_longer_word(shown: str) -> None:
    assert S not in text(shown)


def test_known_values_are_shown_as_they_are() -> None:
    assert plain([None, True, 3, 1.5, "é"]) == [None, True, 3, 1.5, "é"]
    assert plain(float("nan")) == "nan"
    assert plain([HTTPStatus.GONE, type("Own", (float,), {})(1.5)]) == [410, 1.5]
    assert plain(KeyError("a", f"pw={S}")) == {"": "<builtins.KeyError>", "args": ["a", f"pw={REMOVED}"]}
    assert plain(10**30) == "<a number of 100 bits>"
    assert plain(Account()) == {
        "": "<tests.observe.test_scrubber.Account>", "name": "ann", "password": REMOVED,
        "nested": {"Authorization": REMOVED},
    }  # fmt: skip
    assert plain(time) == "<builtins.module>"


class Asking:
    """Whoever looks into it has it ask a database."""

    def _ask(self) -> NoReturn:
        raise AssertionError("it was asked")

    __iter__ = __len__ = _ask


class Point(NamedTuple):
    x: int


KINDS = (list, tuple, set, frozenset, deque)


@pytest.mark.parametrize("kind", KINDS)
def test_no_code_of_a_collection_is_called(kind: type[Any]) -> None:
    assert plain(type("Lazy", (Asking, kind), {})([1])) == [1]


def test_no_code_of_a_named_tuple_or_of_bytes_is_called() -> None:
    assert plain(type("Lazy", (Asking, Point), {})(1))["x"] == 1
    assert plain(type("Lazy", (Asking, bytes), {})(b"abc")) == "<3 bytes>"


@pytest.fixture
def of_the_attempt() -> Iterator[Callable[..., None]]:
    """Says which texts are secret in this thread."""
    before = scrubber.secrets.set(())
    yield lambda *texts: scrubber.secrets.set(texts)
    scrubber.secrets.reset(before)


def test_a_number_that_is_secret_is_removed(of_the_attempt: Callable[..., None]) -> None:
    of_the_attempt("4711081512", "17.25")
    assert plain({"card": 4711081512, "sum": [17.25, 1.5, 4711]}) == {"card": REMOVED, "sum": [REMOVED, 1.5, 4711]}
    assert scrubber.field("card", 4711081512) == REMOVED
    assert plain({4711081512: True}) == {REMOVED: True}


@pytest.mark.parametrize("length", [900, 9_000, 200_000])
def test_a_secret_of_any_length_is_removed_before_a_text_is_cut(
    of_the_attempt: Callable[..., None], length: int
) -> None:
    of_the_attempt("opensesame" * (length // 10))
    told = f"told: {'opensesame' * (length // 10)}, and more"
    assert text(told) == text(told, 300) == plain([told])[0] == f"told: {REMOVED}, and more"
    assert scrubber.line(told, 300) == scrubber.end(told, 300) == f"told: {REMOVED}, and more"
    assert "sesame" not in scrubber.end(told + ". x" * 3000, 8000)
    assert "sesame" not in text("x" * 290 + told, 300)


def test_of_a_very_long_text_only_a_part_is_looked_into(of_the_attempt: Callable[..., None]) -> None:
    of_the_attempt("opensesame")
    told = "opensesame, " * (scrubber.LONGEST_LOOKED_INTO // 4)
    assert text(told, 20) == f"{REMOVED}, {REMOVED}" + scrubber.CUT
    assert scrubber.end(told, 22) == f"{REMOVED}, {REMOVED}, "


def test_time_that_others_have_had_the_processor_costs_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    moments = (now + second for second in range(1_000_000))
    monkeypatch.setattr(scrubber.time, "monotonic", lambda: next(moments))
    assert plain({"first": [1, 2], "second": "x"}) == {"first": [1, 2], "second": "x"}
