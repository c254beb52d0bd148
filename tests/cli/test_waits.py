"""How long commands wait for the end of a task, and how patient they are with the service meanwhile."""

import http.client
import json
import time
from typing import Any

import pytest

from service.cli import caller
from service.cli.main import main
from tests.cli.scripted import Answer, Script, unavailable
from tests.http_server import Handler, HttpServer
from tests.servers import BUSY

UID = "5f" * 32
QUEUED = {"uid": UID, "type": "echo", "queue": "default", "status": "queued", "progress": None, "error": None}
UNREADABLE = {**QUEUED, "status": "unreadable", "error": {"type": "Unreadable", "message": "no task document"}}


@pytest.mark.parametrize(
    ("words", "before"),
    [
        (["task", "wait", UID], []),
        (["task", "wait", UID, "--json"], []),
        (["task", "create", "echo", "--wait"], [QUEUED]),
        (["release", "promote", "r", "--wait"], [{"task": QUEUED}]),
    ],
)
def test_a_wait_for_what_cannot_be_read_ends(
    script: Script, capsys: pytest.CaptureFixture[str], words: list[str], before: list[Any]
) -> None:
    server = script(*[(200, {}, answer) for answer in (*before, UNREADABLE)])
    assert main(words) == caller.FAILED
    assert len(server.seen) == len(before) + 1
    out, err = capsys.readouterr()
    assert "--json" in words or ("no task document" in err and out == "")


SUCCEEDED = {**QUEUED, "status": "succeeded", "result": {"changed": 1, "left_out": {}}}
STREAM: Answer = (200, {"Content-Type": "text/event-stream"}, b"event: end\ndata: {}\n\n")
WORKSPACE = {"slug": "w-jo-aaaaaaaa", "task": UID}
OF_A_WORKSPACE = {"task": {**QUEUED, "type": "workspace.delete"}, "workspace": WORKSPACE}
DELETED = {**SUCCEEDED, "type": "workspace.delete"}


@pytest.mark.parametrize(
    ("words", "before"),
    [
        (["workspace", "delete", "w-jo-aaaaaaaa", "--wait"], [(202, {}, OF_A_WORKSPACE)]),
        (["workspace", "delete", "w-jo-aaaaaaaa", "--follow"], [(202, {}, OF_A_WORKSPACE), STREAM]),
        (["workspace", "log", "w-jo-aaaaaaaa", "--follow"], [(200, {}, WORKSPACE), STREAM]),
        (["release", "promote", "r", "--wait"], [(202, {}, {"task": QUEUED})]),
        (["task", "cancel", "--status", "queued", "--yes"], [(202, {}, QUEUED), STREAM]),
        (["task", "wait", UID], []),
    ],
)
def test_who_waits_is_patient_for_a_minute(
    script: Script, monkeypatch: pytest.MonkeyPatch, words: list[str], before: list[Answer]
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("service.cli.caller.time.sleep", pauses.append)
    ended = DELETED if words[0] == "workspace" else SUCCEEDED
    script(*before, unavailable(Retry_After="50"), (200, {}, ended))
    assert main(words) == 0
    assert max(pauses) >= 50


@pytest.mark.parametrize("words", [["task", "create", "echo", "--wait"], ["task", "wait", UID, UID]])
def test_who_waits_is_patient_where_nobody_listens_any_more(
    script: Script, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    script((200, {}, QUEUED if "create" in words else SUCCEEDED), (200, {}, SUCCEEDED))
    connect, tries = http.client.HTTPConnection.connect, iter([True, False, True])

    def connected(connection: http.client.HTTPConnection) -> None:
        if not next(tries):
            raise ConnectionRefusedError
        connect(connection)

    monkeypatch.setattr(http.client.HTTPConnection, "connect", connected)
    assert main(words) == 0


class Silent(Handler):
    """Its stream says that the task is there, and nothing more until its reader goes."""

    def do_GET(self) -> None:
        is_stream = self.path.endswith("/events")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if is_stream else "application/json")
        self.end_headers()
        told = json.dumps(QUEUED).encode()
        self.wfile.write(b"event: task\ndata: " + told + b"\n\n" if is_stream else told)
        if is_stream:
            self.connection.recv(1)


def test_a_silent_stream_is_left_when_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = HttpServer(Silent)
    try:
        monkeypatch.setenv("SANDBOX_URL", f"http://127.0.0.1:{server.port}")
        began = time.monotonic()
        assert main(["task", "wait", UID, "--follow", "--timeout", "1"]) == caller.TIMED_OUT
        assert time.monotonic() - began < 1 + 4 * BUSY
    finally:
        server.close()
    assert f"the task {UID} is queued after 1 s; it goes on." in capsys.readouterr().err
