"""Which calls are sent again, for how long, and what the end of it is."""

import http.client
import json
import math
import time
from typing import Any

import pytest

from service.cli import caller
from service.cli.address import WrongAddress
from service.cli.caller import MISUSED, CallFailed, Service
from service.cli.main import main
from tests.cli.scripted import CUT, OK, Answer, Script, unavailable
from tests.servers import free_port


@pytest.mark.parametrize("fault", [CUT, *map(unavailable, (429, 502, 503, 504))])
def test_what_reads_is_sent_again(script: Script, fault: Answer) -> None:
    server = script(fault, fault, OK)
    assert Service().get("/tasks") == {"fine": True}
    assert len(server.seen) == 3


@pytest.mark.parametrize("fault", [CUT, *map(unavailable, (429, 502, 503, 504))])
def test_a_create_is_sent_again_with_its_key(script: Script, fault: Answer) -> None:
    server = script(fault, OK)
    Service().post("/tasks", {"type": "echo"}, key="k")
    assert [headers["Idempotency-Key"] for _, _, headers, _ in server.seen] == ["k", "k"]
    assert [body for *_, body in server.seen] == [{"type": "echo"}] * 2


@pytest.mark.parametrize("fault", [CUT, *map(unavailable, (502, 503, 504))])
def test_what_was_perhaps_done_is_not_done_again(script: Script, fault: Answer) -> None:
    server = script(fault, OK)
    with pytest.raises(CallFailed) as failed:
        Service().post("/tasks/x/retry")
    assert failed.value.exit_code == caller.UNAVAILABLE
    assert len(server.seen) == 1


def test_what_was_surely_not_done_is_sent_again(script: Script) -> None:
    server = script(unavailable(429), OK)
    Service().post("/tasks/x/retry")
    assert len(server.seen) == 2


REMOVALS = [["task", "purge", "0" * 64], ["schedule", "delete", "nightly"], ["limit", "remove", "partner"]]
GONE: Answer = (404, {}, {"detail": "There is none."})


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("words", REMOVALS)
@pytest.mark.parametrize("fault", [CUT, *map(unavailable, (502, 503, 504))])
def test_what_a_try_before_has_perhaps_removed_is_removed(
    script: Script, fault: Answer, words: list[str], options: list[str]
) -> None:
    server = script(fault, unavailable(429), GONE)
    assert main(words + options * (words[0] != "schedule")) == 0
    assert [method for method, *_ in server.seen] == ["DELETE"] * 3


@pytest.mark.parametrize("words", REMOVALS)
@pytest.mark.parametrize("before", [[], [unavailable(429)]])
def test_what_was_never_there_is_not_found(script: Script, words: list[str], before: list[Answer]) -> None:
    script(*before, GONE)
    assert main(words) == caller.NOT_FOUND


def test_a_cancel_of_a_task_that_is_not_there_is_not_found(script: Script) -> None:
    script(CUT, GONE)
    assert main(["task", "cancel", "0" * 64]) == caller.NOT_FOUND


@pytest.mark.parametrize(("word", "method"), [("cancel", "DELETE"), ("retry", "POST"), ("purge", "DELETE")])
def test_an_ambiguous_uid_does_not_keep_the_others_from_it(
    script: Script, capsys: pytest.CaptureFixture[str], word: str, method: str
) -> None:
    server = script((200, {}, {"tasks": [{"uid": "a"}, {"uid": "b"}], "next": None}), OK)
    assert main(["task", word, "5f5f5f5f", "0" * 64]) == MISUSED
    out, err = capsys.readouterr()
    assert out.startswith("0" * 64) and err == "sandbox: several tasks have a UID that begins with 5f5f5f5f.\n"
    assert [asked for asked, *_ in server.seen] == ["GET", method]


@pytest.mark.parametrize("fault", [CUT, *map(unavailable, (502, 503, 504))])
def test_the_deletion_of_a_workspace_is_not_sent_again(script: Script, fault: Answer) -> None:
    server = script(fault, (409, {}, {"detail": "Another action is at work."}))
    assert main(["workspace", "delete", "w-jo-aaaaaaaa"]) == caller.UNAVAILABLE
    assert len(server.seen) == 1


def test_retry_after_is_obeyed(script: Script) -> None:
    script(unavailable(Retry_After="1"), OK)
    began = time.monotonic()
    Service().get("/tasks")
    assert time.monotonic() - began >= 1


def test_patience_has_an_end(script: Script) -> None:
    server = script(*[unavailable(Retry_After="0.2")] * 100)
    with pytest.raises(CallFailed, match="Redis is away") as failed:
        Service(0.5).get("/tasks")
    assert failed.value.exit_code == caller.UNAVAILABLE
    assert 1 < len(server.seen) < 5


def test_where_nobody_listens_it_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(CallFailed, match=r"no service answers at \S+: Connection refused") as failed:
        Service(patience_seconds=60).get("/tasks")
    assert failed.value.exit_code == caller.UNAVAILABLE


def test_where_nobody_listens_it_is_tried_for_as_long_as_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_URL", f"http://127.0.0.1:{free_port()}")
    tries: list[float] = []
    connect = http.client.HTTPConnection.connect

    def counted(connection: http.client.HTTPConnection) -> None:
        tries.append(time.monotonic())
        connect(connection)

    monkeypatch.setattr(http.client.HTTPConnection, "connect", counted)
    with pytest.raises(CallFailed, match="Connection refused"):
        Service(0.5).get("/tasks")
    assert len(tries) > 1


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 2), (401, 4), (403, 4), (404, 5), (409, 6), (413, 2), (421, 4), (422, 2), (500, 1)],
)
def test_a_refusal_is_told_in_two_lines_and_has_its_exit_code(script: Script, status: int, code: int) -> None:
    script((status, {"X-Request-ID": "r-1"}, {"detail": "That will not do."}), path="/there")
    with pytest.raises(CallFailed) as failed:
        Service().get("/tasks/x")
    assert failed.value.exit_code == code
    said, where = str(failed.value).splitlines()
    assert said == ("That will not do." if status != 401 else "the service wants a token: set SANDBOX_TOKEN.")
    assert where == f"(GET /there/tasks/x: {status}, request r-1)"


@pytest.mark.parametrize("answer", [(200, {}, b"<html>"), (404, {}, b"<html>"), (502, {}, b"\xff")])
def test_what_is_no_sandbox_is_told(script: Script, answer: Answer) -> None:
    script(*[answer] * 20)
    with pytest.raises(CallFailed, match="no sandbox"):
        Service(0).get("/tasks")


MOVED: Answer = (308, {"Location": "https://there/tasks/x", "Content-Length": "0"}, b"")


@pytest.mark.parametrize("answer", [MOVED, (200, {}, b""), (200, {}, b"[]"), (200, {}, b"[" * 100_000)])
def test_nothing_else_is_taken_for_done(script: Script, answer: Answer) -> None:
    """A proxy that leads to https sends no body, and has done nothing."""
    server = script(*[answer] * 20)
    for call in (Service(0).delete, Service(0).post):
        with pytest.raises(CallFailed, match="no sandbox") as failed:
            call("/tasks/x")
    assert ("leads to https://there/tasks/x" in str(failed.value)) == (answer is MOVED)
    assert len(server.seen) == 2


def test_what_is_no_stream_of_events_is_told(script: Script) -> None:
    script(*[(200, {"Content-Type": "text/html"}, b"<html>")] * 2)
    with pytest.raises(CallFailed, match="no sandbox"), Service(0).stream("/tasks/x/events", {}):
        pass


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["task", "create", "echo"], b"{}"),
        (["task", "list"], b"{}"),
        (["task", "list"], b'{"tasks": [{}], "next": null}'),
        (["queue", "list"], b"{}"),
        (["runners"], b'{"runners": [{}]}'),
    ],
)
def test_an_object_of_something_else_is_told(
    script: Script, capsys: pytest.CaptureFixture[str], words: list[str], answer: bytes
) -> None:
    script((200, {}, answer))
    assert main(words) == 1
    told = capsys.readouterr().err
    assert "the answer has no '" in told and "no sandbox, or one of another version" in told


EVENTS = [b"event: log\ndata: {]\n\n", b"event: task\ndata: 1\n\n", b"event: log\ndata: {}\n\n"]


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_of_something_else_is_told(script: Script, capsys: pytest.CaptureFixture[str], event: bytes) -> None:
    script((200, {"Content-Type": "text/event-stream"}, event))
    assert main(["task", "log", "--follow", "0" * 64]) == 1
    assert "no sandbox" in capsys.readouterr().err


def test_what_is_shown_as_json_speaks_to_no_terminal(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    value = {"name": "a\x9b31m \u202eé\U000e0001"}
    script((200, {}, value))
    assert main(["task", "get", "--json", "0" * 64]) == 0
    shown = capsys.readouterr().out
    assert shown.strip().isprintable() and "é" in shown and json.loads(shown) == value


@pytest.mark.parametrize("command", ["get", "cancel"])
def test_what_a_server_says_does_not_speak_to_the_terminal(
    script: Script, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    script((404, {"X-Request-ID": "\x1b[31mx"}, {"detail": "\x1b]0;title\x07"}))
    assert main(["task", command, "0" * 64]) == 5
    assert "\x1b" not in (told := capsys.readouterr().err) and "\\x1b]0;title\\x07.\n(" in told


ESCAPED = "a\x1b[2J\nb"
WORKSPACE = {"slug": ESCAPED, "state": "ready", "error": None}
LINE = {"at": ESCAPED, "level": ESCAPED, "attempt": ESCAPED, "text": ESCAPED}


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["task", "create", "echo"], {"uid": ESCAPED}),
        (["task", "cancel", "5f5f5f5f"], {"tasks": [{"uid": ESCAPED}], "next": None}),
        (["task", "cancel", "--status", "queued", "--dry-run"], {"matched": ESCAPED, "more": False}),
        (["task", "log", "0" * 64], {"dropped": 0, "lines": [LINE]}),
        (["schedule", "run", "nightly"], {"uid": ESCAPED}),
        (["workspace", "create", "jo@example.org"], {"task": None, "workspace": WORKSPACE}),
        (["workspace", "link", "w-jo-aaaaaaaa"], {"link": ESCAPED}),
    ],
)
def test_what_a_server_calls_things_does_not_speak_to_the_terminal(
    script: Script, capsys: pytest.CaptureFixture[str], words: list[str], answer: Any
) -> None:
    script((200, {}, answer), OK)
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert (
        "a\\x1b[2J\\nb" in printed and printed.count("\n") == 1 and printed.rstrip("\n").replace("\t", "").isprintable()
    )


def test_the_token_is_sent(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    server = script(OK)
    monkeypatch.setenv("SANDBOX_TOKEN", "sbx_abc\n")
    Service().get("/tasks")
    assert server.seen[0][2]["Authorization"] == "Bearer sbx_abc"


@pytest.mark.parametrize(
    "words",
    [
        ["task", "get", "\udcff"],
        ["task", "list", "--q", "\udcff"],
        ["task", "create", "echo", "--key", "\udcff"],
        ["task", "create", "echo", "--key", "€"],
        ["task", "create", "echo", "--key", ""],
        ["schedule", "run", "nightly", "--key", ""],
        ["schedule", "run", "nightly", "--key", "a\nb"],
        ["schedule", "delete", "\udcff"],
        ["queue", "pause", "default", "--reason", "\udcff"],
    ],
)
def test_what_cannot_be_sent_is_misuse(script: Script, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    server = script(OK)
    assert main(words) == MISUSED
    assert len(capsys.readouterr().err.splitlines()) == 1 and server.seen == []


@pytest.mark.parametrize("value", ["\udcff", math.nan, math.inf])
def test_what_is_no_json_is_misuse(script: Script, value: object) -> None:
    server = script(OK)
    with pytest.raises(CallFailed, match="no JSON") as failed:
        Service().post("/tasks", {"args": {"message": value}})
    assert failed.value.exit_code == MISUSED and server.seen == []


def test_what_is_nested_too_deeply_to_be_sent_is_misuse(script: Script) -> None:
    server, deep = script(OK), [0]
    for _ in range(100_000):
        deep = [deep]  # type: ignore[list-item]
    with pytest.raises(CallFailed, match="nested too deeply") as failed:
        Service().post("/tasks", {"args": deep})
    assert failed.value.exit_code == MISUSED and server.seen == []


ADDRESSES = ["localhost:8000", "ftp://x", "http://", "http://u:p@x", "http://x?a=b", "unix:x.sock", "http://a..b"]
UNSENDABLE = [f"http://{'a' * 64}.de", "http://\udcff", "http://x/ü", "http://x/a b", "http://a b"]


@pytest.mark.parametrize("url", ADDRESSES + UNSENDABLE)
def test_an_address_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SANDBOX_URL", url)
    with pytest.raises(WrongAddress, match="SANDBOX_URL cannot be used") as refused:
        Service()
    assert refused.value.exit_code == MISUSED
