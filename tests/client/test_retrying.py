"""What is sent again and what is not, to a server that fails as it is told; both kinds of client."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from sandbox_client import (
    AsyncClient,
    Client,
    Conflict,
    NotFound,
    Readiness,
    SandboxError,
    TimedOut,
    TooManyRequests,
    Unavailable,
    Unreachable,
)
from sandbox_client.calls import Call
from sandbox_client.retrying import FIRST_BOUND_SECONDS, HIGHEST_BOUND_SECONDS, Pauses, Retries
from tests.client.blocking import Blocking
from tests.client.scripted import LOST, Answer, NotedClock, Server, serving
from tests.servers import free_port

UID = "5f" * 32
TASK = {"uid": UID, "type": "echo", "status": "queued"}
DONE = Answer(200, json.dumps(TASK).encode())
CANCELLED = Answer(200, json.dumps(TASK | {"status": "cancelled"}).encode())
CONFLICT = Answer(409, b'{"status": 409, "detail": "it has finished"}')
DATE = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def clock() -> NotedClock:
    return NotedClock()


@pytest.fixture(params=["blocking", "async"])
def sandbox(request: pytest.FixtureRequest, runner: asyncio.Runner, server: Server, clock: NotedClock) -> Iterator[Any]:
    if request.param == "async":
        opened = AsyncClient(server.url, clock=clock)
        yield Blocking(opened, runner)
        runner.run(opened.close())
    else:
        with Client(server.url, clock=clock) as client:
            yield client


FAULTS = {
    "502": Answer(502, b"<html>Bad Gateway</html>"),
    "503": Answer(503, b'{"status": 503, "detail": "Redis does not answer"}'),
    "504": Answer(504, b""),
    "429": Answer(429),
    "lost": LOST,
    "no HTTP": Answer(200, b"", {"Content-Length": "nonsense"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_create_is_sent_again_with_the_same_key_and_body(sandbox: Any, server: Server, fault: str) -> None:
    server.answers = [FAULTS[fault], FAULTS[fault], Answer(201, DONE.body)]
    assert sandbox.create("echo", message="hello").uid == UID
    first, *others = server.asked
    assert len(others) == 2
    assert first.method == "POST" and first.headers["Idempotency-Key"]
    assert json.loads(first.body) == {"type": "echo", "args": {"message": "hello"}}
    assert [(each.headers, each.body) for each in others] == [(first.headers, first.body)] * 2


def test_each_create_has_a_key_of_its_own(sandbox: Any, server: Server) -> None:
    server.answers = [Answer(201, DONE.body)]
    sandbox.create("echo")
    sandbox.create("echo")
    sandbox.create("echo", idempotency_key="order-17")
    keys = [each.headers["Idempotency-Key"] for each in server.asked]
    assert len({*keys}) == 3 and keys[2] == "order-17"


@pytest.mark.parametrize("fault", FAULTS)
def test_reading_is_tried_again(sandbox: Any, server: Server, fault: str) -> None:
    server.answers = [FAULTS[fault], DONE]
    assert sandbox.get(UID).uid == UID
    assert len(server.asked) == 2


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "429"])
def test_a_retry_that_perhaps_was_done_is_not_sent_again(sandbox: Any, server: Server, fault: str) -> None:
    server.answers = [DONE]
    task = sandbox.get(UID)
    server.answers = [FAULTS[fault]]
    with pytest.raises(SandboxError) as raised:
        task.retry()
    assert isinstance(raised.value, Unavailable | Unreachable)
    assert [each.method for each in server.asked] == ["GET", "POST"]


def test_a_retry_that_surely_was_not_done_is_sent_again(sandbox: Any, server: Server) -> None:
    server.answers = [DONE, FAULTS["429"], DONE]
    assert sandbox.get(UID).retry().status == "queued"
    assert [each.method for each in server.asked] == ["GET", "POST", "POST"]


def test_a_cancel_whose_answer_was_lost_has_cancelled(sandbox: Any, server: Server) -> None:
    server.answers = [DONE, LOST, CONFLICT, CANCELLED]
    assert sandbox.get(UID).cancel().status == "cancelled"
    assert [each.method for each in server.asked] == ["GET", "DELETE", "DELETE", "GET"]


def test_a_cancel_that_came_too_late_is_a_conflict(sandbox: Any, server: Server) -> None:
    finished = Answer(200, json.dumps(TASK | {"status": "succeeded"}).encode())
    server.answers = [DONE, LOST, CONFLICT, finished]
    with pytest.raises(Conflict):
        sandbox.get(UID).cancel()
    server.answers = [DONE, CONFLICT, CANCELLED]
    with pytest.raises(Conflict):
        sandbox.get(UID).cancel()


REMOVALS = {
    "schedule": lambda sandbox: sandbox.delete_schedule("nightly"),
    "limit": lambda sandbox: sandbox.remove_limit("partner"),
    "task": lambda sandbox: sandbox.get(UID).purge(),
}


@pytest.mark.parametrize("removal", REMOVALS)
@pytest.mark.parametrize("fault", FAULTS)
def test_only_what_was_perhaps_removed_need_not_be_found(
    sandbox: Any, server: Server, fault: str, removal: str
) -> None:
    server.answers = [DONE] * (removal == "task") + [FAULTS[fault], FAULTS["429"], Answer(404)]
    if fault == "429":
        with pytest.raises(NotFound):
            REMOVALS[removal](sandbox)
    else:
        REMOVALS[removal](sandbox)
    assert [each.method for each in server.asked[-3:]] == ["DELETE"] * 3


def test_a_cancel_that_surely_was_not_done_is_a_conflict(sandbox: Any, server: Server) -> None:
    server.answers = [DONE, FAULTS["429"], CONFLICT, CANCELLED]
    with pytest.raises(Conflict):
        sandbox.get(UID).cancel()


def test_where_nobody_listened_nothing_was_done() -> None:
    retries = Retries(10, NotedClock())
    for sent in (False, True):
        retries.pause_after(Call("DELETE", "/"), Unreachable("away", request_id=None, sent=sent))
        assert retries.perhaps_done is sent


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 500])
def test_nothing_else_is_tried_again(sandbox: Any, server: Server, status: int) -> None:
    server.answers = [Answer(status)]
    with pytest.raises(SandboxError):
        sandbox.create("echo")
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": format_datetime(DATE + timedelta(seconds=9), usegmt=True), "Date": format_datetime(DATE)}, 9),
        ({"Retry-After": format_datetime(DATE - timedelta(days=9), usegmt=True)}, 0),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": "-5"}, 0),
        ({}, 0),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed(
    sandbox: Any, server: Server, clock: NotedClock, status: int, headers: dict[str, str], seconds: float
) -> None:
    server.answers = [Answer(status, headers=headers), DONE]
    sandbox.get(UID)
    [pause] = clock.pauses
    assert seconds <= pause <= seconds + FIRST_BOUND_SECONDS


def test_a_retry_after_beyond_the_time_is_told_at_once(sandbox: Any, server: Server, clock: NotedClock) -> None:
    server.answers = [Answer(503, headers={"Retry-After": "31"})]
    with pytest.raises(Unavailable) as raised:
        sandbox.get(UID)
    assert raised.value.retry_after == 31
    assert clock.pauses == []


def test_the_fault_is_raised_when_the_time_is_over(sandbox: Any, server: Server, clock: NotedClock) -> None:
    server.answers = [FAULTS["503"]]
    with pytest.raises(Unavailable, match="503: Redis does not answer") as raised:
        sandbox.create("echo")
    assert raised.value.request_id == server.asked[0].headers["X-Request-ID"]
    assert len({each.headers["Idempotency-Key"] for each in server.asked}) == 1
    assert len(server.asked) == len(clock.pauses) + 1 > 3
    assert clock.monotonic() < 30


@pytest.mark.parametrize("make", [Client, AsyncClient])
def test_where_nobody_listens_it_is_tried_until_the_time_is_over(
    make: Callable[..., Any], runner: asyncio.Runner, clock: NotedClock
) -> None:
    opened = make(f"http://127.0.0.1:{free_port()}", retry_for=3, clock=clock)
    sandbox = Blocking(opened, runner) if make is AsyncClient else opened
    with pytest.raises(Unreachable, match=r"no answer from http://127.0.0.1:\d+: ") as raised:
        sandbox.create("echo")
    assert (raised.value.status, raised.value.problem, raised.value.sent) == (None, None, False)
    assert raised.value.request_id
    assert len(clock.pauses) > 2 and clock.monotonic() < 3
    sandbox.close()


def test_readiness_is_asked_for_once(sandbox: Any, server: Server, clock: NotedClock) -> None:
    server.answers = [Answer(503, b'{"detail": "no", "failing": {"redis": "it is away"}}'), Answer(503, b"")]
    assert sandbox.ready() == Readiness(False, {"redis": "it is away"})
    readiness = sandbox.ready()
    assert not readiness and readiness.failing == {"service": "Service Unavailable"}
    assert clock.pauses == []


def test_a_wait_that_is_answered_at_once_pauses_before_it_asks_again(
    sandbox: Any, server: Server, clock: NotedClock
) -> None:
    server.answers = [DONE]
    task = sandbox.get(UID)
    with pytest.raises(TimedOut):
        task.wait(timeout=60)
    bounds = [FIRST_BOUND_SECONDS * 2**n for n in range(len(clock.pauses))]
    assert all(pause <= min(bound, HIGHEST_BOUND_SECONDS) for pause, bound in zip(clock.pauses, bounds, strict=True))
    assert clock.monotonic() == pytest.approx(60)
    rounds = [each.headers.get("Prefer") for each in server.asked]
    assert rounds[:2] == [None, "wait=30"]
    assert len(rounds) < 100


def test_a_wait_for_what_cannot_be_read_ends(sandbox: Any, server: Server) -> None:
    server.answers = [DONE, Answer(200, json.dumps(TASK | {"status": "unreadable"}).encode()), FAULTS["503"]]
    task = sandbox.get(UID).wait(timeout=60)
    assert (task.status, task.ended, task.finished) == ("unreadable", True, False)
    assert len(server.asked) == 2
    assert task.wait().status == "unreadable"


def test_a_fault_in_a_wait_is_tried_again_within_its_time(sandbox: Any, server: Server, clock: NotedClock) -> None:
    server.answers = [DONE, LOST, FAULTS["503"], CANCELLED]
    assert sandbox.get(UID).wait(timeout=60).finished
    server.answers = [DONE, FAULTS["503"]]
    task, before = sandbox.get(UID), clock.monotonic()
    with pytest.raises(Unavailable):
        task.wait(timeout=4)
    assert clock.monotonic() - before < 4


# --- the pauses themselves ---------------------------------------------------------------------------


def test_the_bound_of_the_pauses_doubles_up_to_the_highest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda lowest, highest: (lowest, highest))
    pauses = Pauses()
    bounds = [pauses.next() for _ in range(8)]
    assert bounds == [(0, bound) for bound in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0)]
    pauses.restart()
    assert pauses.next() == (0, 0.1)


def test_the_time_runs_from_the_first_fault() -> None:
    clock = NotedClock()
    retries = Retries(10, clock)
    clock.sleep(1000)  # the service held its answer back for so long
    fault = Unreachable("lost", request_id=None, sent=True)
    assert retries.pause_after(Call("GET", "/"), fault) <= FIRST_BOUND_SECONDS
    clock.sleep(10)
    with pytest.raises(Unreachable):
        retries.pause_after(Call("GET", "/"), fault)


def test_too_many_requests_is_its_own_exception(sandbox: Any, server: Server) -> None:
    server.answers = [Answer(429, headers={"Retry-After": "3600"})]
    with pytest.raises(TooManyRequests):
        sandbox.get(UID)
