"""What is captured arrives, whichever client carries it."""

import json
import linecache
import logging
import subprocess
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest

from service.errors import Cancelled, Reject, Retry, Stopping, StoreUnavailable, TimedOut
from service.observe import scrubber
from service.observe.sentry.reporter import ErrorsInTheLog, Reporter
from service.web.problem import not_found
from tests.observe.sentry.sink import HANGS, Sink
from tests.servers import BUSY

SECRET = "hunter2-x9"
LONG = "opensesame" * 2000
CARD = 4711081512
log = logging.getLogger("tests.observe.sentry")


def fail(number: int = 0) -> None:
    password = SECRET  # noqa: F841 - to be seen in the stack
    order = {"number": number, "card": {"api_key": SECRET}}
    raise ValueError(f"no order {order['number']}")


def caught(fault: Callable[..., Any], *words: Any) -> BaseException:
    try:
        fault(*words)
    except BaseException as error:
        return error
    raise AssertionError("it did not fail")


def test_an_error_arrives_with_all_that_is_needed_to_judge_it(errors: Reporter, sink: Sink) -> None:
    event_id = errors.capture(caught(fail, 17), tags={"type": "t", "queue": "q", "attempt": 2})
    [event] = sink.expect(1)
    assert event["event_id"] == event_id
    assert (event["release"], event["environment"], event["level"]) == ("r-1", "testing", "error")
    assert event["tags"] == {"process": "test", "type": "t", "queue": "q", "attempt": "2"}
    [exception] = event["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("ValueError", "no order 17")
    frame = exception["stacktrace"]["frames"][-1]
    assert (frame["function"], frame["module"], frame["in_app"]) == ("fail", "tests.observe.sentry.test_reporter", True)
    assert "raise ValueError" in frame["context_line"]
    assert frame["vars"]["order"] == {"number": 17, "card": {"api_key": "[removed]"}}
    assert SECRET not in str(event)


def test_what_is_secret_in_the_thread_is_in_no_part_of_an_event_however_long(errors: Reporter, sink: Sink) -> None:
    def fault(number: int, word: str) -> None:
        log.info("with %s and %d", word, number)
        log.warning("adding %d", number, extra={"card": number})
        raise ValueError(f"neither {number} nor {word}")

    before = scrubber.secrets.set((LONG, str(CARD)))
    try:
        errors.capture(caught(fault, CARD, LONG), extra={"card": CARD})
        log.error("%s", LONG, extra={"card": CARD})
    finally:
        scrubber.secrets.reset(before)
    told = str(sink.expect(2))
    assert "neither [removed] nor [removed]" in told and "with [removed] and [removed]" in told
    assert "sesame" not in told and str(CARD) not in told


def test_the_key_of_the_dsn_opens_the_door(errors: Reporter, sink: Sink) -> None:
    errors.capture(caught(fail))
    sink.expect(1)
    [head] = sink.requests
    assert "sentry_key=thekey" in head
    assert head.startswith(("POST /api/7/store/ ", "POST /api/7/envelope/ "))


def test_causes_are_told_and_the_last_raised_comes_last(errors: Reporter, sink: Sink) -> None:
    def outer() -> None:
        try:
            fail()
        except ValueError as error:
            raise RuntimeError("outer") from error

    errors.capture(caught(outer))
    [event] = sink.expect(1)
    assert [value["type"] for value in event["exception"]["values"]] == ["ValueError", "RuntimeError"]


def grouped(fault: Callable[..., Any], *words: Any) -> None:
    group = ExceptionGroup("of a task group", [caught(fault, *words), KeyError("other")])
    raise ExceptionGroup("outer", [group])


def test_a_group_tells_the_first_fault_in_it_and_is_an_issue_by_that(errors: Reporter, sink: Sink) -> None:
    errors.capture(caught(grouped, fail, 1))
    errors.capture(caught(grouped, fail, 2))
    errors.capture(caught(grouped, int, "x"))
    one, two, other = sink.expect(3)
    kinds = [value["type"] for value in one["exception"]["values"]]
    assert kinds == ["ValueError", "ExceptionGroup", "ExceptionGroup"]
    assert one["exception"]["values"][0]["value"] == "no order 1"
    assert one["fingerprint"] == two["fingerprint"] != other["fingerprint"]
    assert one["transaction"] == "tests.observe.sentry.test_reporter in fail"


def test_two_hundred_errors_in_a_loop_are_two_hundred_events(errors: Reporter, sink: Sink) -> None:
    ids = {errors.capture(caught(fail, number)) for number in range(200)}
    assert len(ids) == 200
    assert {event["event_id"] for event in sink.expect(200, 30)} == ids


def test_the_same_object_raised_again_in_the_next_attempt_is_another_event(errors: Reporter, sink: Sink) -> None:
    error = caught(fail)
    first = errors.capture(error)
    errors.begin()
    second = errors.capture(error)
    assert first != second
    sink.expect(2)


def test_what_was_logged_and_then_raised_is_one_event(errors: Reporter, sink: Sink) -> None:
    errors.begin()
    error = caught(fail)
    log.error("it failed", exc_info=error)
    event_id = errors.capture(error)
    errors.flush()
    assert [event["event_id"] for event in sink.events] == [event_id]


def test_the_same_fault_is_one_issue_whatever_its_arguments(errors: Reporter, sink: Sink) -> None:
    errors.capture(caught(fail, 1), tags={"type": "a"})
    errors.capture(caught(fail, 2), tags={"type": "a"})
    errors.capture(caught(fail, 2), tags={"type": "b"})
    errors.capture(caught(int, "x"), tags={"type": "a"})
    events = sink.expect(4)
    one, two, other_type, other_fault = (tuple(event["fingerprint"]) for event in events)
    assert one == two
    assert len({one, other_type, other_fault}) == 3


def pick(first: bool) -> None:
    if first:
        raise ValueError("no stock")
    raise ValueError("no price")


def test_two_faults_of_one_kind_in_one_function_are_two_issues(errors: Reporter, sink: Sink) -> None:
    errors.capture(caught(pick, True))
    errors.capture(caught(pick, False))
    one, other = (tuple(event["fingerprint"]) for event in sink.expect(2))
    assert one != other


@pytest.mark.parametrize(
    "expected",
    [Reject("no"), Retry("later"), Cancelled(), Stopping(), StoreUnavailable("away"), not_found("nothing here")],
    ids=lambda error: type(error).__name__,
)
def test_what_is_expected_is_no_error(errors: Reporter, sink: Sink, expected: BaseException) -> None:
    assert errors.capture(expected) is None
    assert errors.capture(TimedOut("not expected")) is not None
    assert len(sink.expect(1)) == 1


def test_a_logged_error_is_an_event_with_the_lines_before_it(errors: Reporter, sink: Sink) -> None:
    log.info("of something else")
    errors.begin()
    log.info("logged in with password=%s", SECRET)
    log.warning("odd")
    log.error("broken", exc_info=caught(fail))
    [event] = sink.expect(1)
    crumbs = [crumb["message"] for crumb in event["breadcrumbs"]["values"]]
    assert crumbs == ["logged in with password=[removed]", "odd"]
    assert event["logger"] == "tests.observe.sentry"


def test_a_logged_error_without_an_exception_is_grouped_by_its_text(errors: Reporter, sink: Sink) -> None:
    for number in (1, 2):
        log.error("%d outcomes are lost", number)
    events = sink.expect(2)
    assert [event["extra"]["message"] for event in events] == ["1 outcomes are lost", "2 outcomes are lost"]
    assert events[0]["fingerprint"] == events[1]["fingerprint"]


def lose(number: int) -> None:
    log.error(f"order {number} is lost")
    log.error(f"so is the bill of order {number}")


def test_a_line_that_puts_its_message_together_itself_is_one_issue(errors: Reporter, sink: Sink) -> None:
    for number in (1, 2):
        lose(number)
    prints = [tuple(event["fingerprint"]) for event in sink.expect(4)]
    assert prints[0] == prints[2] and prints[1] == prints[3]
    assert prints[0] != prints[1]


def test_the_same_words_from_another_place_are_another_issue(errors: Reporter, sink: Sink) -> None:
    def elsewhere(number: int) -> None:
        log.error("%d outcomes are lost", number)

    elsewhere(1)
    logging.getLogger("tests.other").error("%d outcomes are lost", 1)
    log.error("%d outcomes are lost", 1)
    assert len({tuple(event["fingerprint"]) for event in sink.expect(3)}) == 3


def test_an_error_that_is_logged_in_storms_is_an_event_a_minute(errors: Reporter, sink: Sink) -> None:
    for _ in range(10):
        log.error("upkeep failed", exc_info=caught(fail), extra={"once": "upkeep"})
    assert errors.flush()
    assert len(sink.events) == 1


def test_an_error_in_a_thread_is_reported(errors: Reporter, sink: Sink) -> None:
    threading.Thread(target=fail, name="worker-9").start()
    [event] = sink.expect(1)
    assert event["tags"]["thread"] == "worker-9"


@pytest.mark.parametrize("extra", [None, {("a", 1): "tuple"}, {"cycle": []}], ids=["None", "tuple keys", "cycle"])
def test_odd_extras_in_the_log_break_nothing(errors: Reporter, sink: Sink, extra: Any) -> None:
    if extra and "cycle" in extra:
        extra["cycle"].append(extra)
    log.info("hello", extra=extra)
    assert errors.capture(caught(fail)) is not None
    sink.expect(1)


def test_a_line_that_cannot_be_formatted_is_shown_as_it_is(errors: Reporter, sink: Sink) -> None:
    listener = next(each for each in logging.getLogger().handlers if isinstance(each, ErrorsInTheLog))
    for level, words in ((logging.INFO, "%d"), (logging.ERROR, "bad %d")):
        record = {"name": "x", "msg": words, "args": ("x",), "levelno": level, "levelname": "X"}
        listener.handle(logging.makeLogRecord(record))
    [event] = sink.expect(1)
    assert [crumb["message"] for crumb in event["breadcrumbs"]["values"]] == ["%d"]


def test_of_a_long_text_the_end_is_told(errors: Reporter, sink: Sink) -> None:
    traceback = "\n".join(f"line {number}" for number in range(10_000))
    errors.capture_message("a reload was refused", tags={"release": "r-2"}, extra={"traceback": traceback})
    [event] = sink.expect(1)
    told = event["extra"]["traceback"]
    assert told.startswith("line ") and told.endswith("\nline 9999") and len(told) > 8000
    assert event["tags"]["release"] == "r-2"


def test_fields_of_a_line_are_tags_without_secrets_and_none_of_them_speaks_for_itself(
    errors: Reporter, sink: Sink
) -> None:
    fields = {
        "password": SECRET, "conn": {"api_key": SECRET}, "uid": "u", "status": HTTPStatus.GONE, "odd": Hostile(),
        "type": Hostile(), "why": OSError("no such host"),
    }  # fmt: skip
    began = time.monotonic()
    log.error("boom", extra={"fields": fields})
    assert time.monotonic() - began < 4
    [event] = sink.expect(1)
    tags = event["tags"]
    assert (tags["password"], tags["uid"], tags["status"]) == ("[removed]", "u", "410")
    assert "Hostile" in tags["odd"] and "no such host" in tags["why"]
    assert SECRET not in str(event)


def test_a_client_takes_nothing_away_and_starts_nothing(
    connect: Callable[..., Reporter], sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SENTRY_RELEASE", raising=False)
    monkeypatch.setattr(subprocess.Popen, "__init__", lambda *_, **__: pytest.fail("a program was started"))
    facts = {f"fact{number}": list(range(12)) for number in range(20)}
    extra = {"facts": facts, "ip_address": "127.0.0.1"}
    connect(sink.dsn).capture_message("a reload was refused", extra=extra)
    [event] = sink.expect(1)
    assert event["extra"] == extra
    assert event["release"] == "r-1"


def seconds_of(errors: Reporter, error: BaseException) -> float:
    began = time.monotonic()
    assert errors.capture(error) is not None
    return time.monotonic() - began


def quickest(errors: Reporter, fault: Callable[..., Any], *words: Any) -> float:
    """Of three: the machine may be busy with something else."""
    return min(seconds_of(errors, caught(fault, *words)) for _ in range(3))


class Hostile:
    """A value that makes trouble for whoever wants to show it."""

    def __repr__(self) -> str:
        time.sleep(5)
        raise RuntimeError

    __str__ = __repr__

    @property
    def __dict__(self) -> Any:
        raise RuntimeError

    @property
    def __class__(self) -> Any:
        raise RuntimeError


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def troublesome() -> None:
    hostile = Hostile()  # noqa: F841
    cycle: list[Any] = []
    cycle.append(cycle)
    large = dict.fromkeys(range(100000), "x" * 10000)  # noqa: F841
    text = "password " * 1_000_000  # noqa: F841
    number = 10**10_000  # noqa: F841
    odd = {(1, 2): b"\0", "\udcff": "\ud800\0", "nan": float("nan"), None: {1}}  # noqa: F841
    raise Mute


def test_values_that_make_trouble_are_shown_all_the_same_and_quickly(errors: Reporter, sink: Sink) -> None:
    assert quickest(errors, troublesome) < 0.1 * BUSY
    event = sink.expect(3)[0]
    shown = event["exception"]["values"][0]["stacktrace"]["frames"][-1]["vars"]
    assert {"hostile", "cycle", "large", "text", "number", "odd"} <= shown.keys()


class Delegating(Exception):
    """It has not come to have a response: so it asks itself for that, again and again."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.response, name)


class Odd(Exception):
    @property
    def status(self) -> Any:
        raise RuntimeError


class Frozen(Exception):
    def __setattr__(self, name: str, value: Any) -> None:
        raise TypeError


class Ending(Exception):
    def __str__(self) -> str:
        raise SystemExit


@pytest.mark.parametrize("kind", [Delegating, Odd, Frozen, Ending])
def test_an_error_is_reported_once_whatever_its_class_makes_of_being_asked(
    errors: Reporter, sink: Sink, kind: type[Exception]
) -> None:
    error = caught(_raise, kind())
    assert errors.capture(error) == errors.capture(error) == sink.expect(1)[0]["event_id"]


def _raise(error: Exception) -> None:
    raise error


def deep(levels: int) -> None:
    values = list(range(levels))
    if values:
        deep(levels - 1)
    raise RecursionError("too deep")


def test_a_deep_recursion_is_told_with_its_both_ends(errors: Reporter, sink: Sink) -> None:
    assert quickest(errors, deep, 900) < 0.1 * BUSY
    event = sink.expect(3)[0]
    assert 40 <= len(event["exception"]["values"][0]["stacktrace"]["frames"]) <= 60


RECURSION = """
def fall(levels, chain):  # {comment}
    secret_token = 'password=' 'x'  # {comment}
    if levels:  # {comment}
        fall(levels - 1, chain)  # {comment}
    try:  # {comment}
        if chain:  # {comment}
            fall(50, chain - 1)  # {comment}
    except ValueError as error:  # {comment}
        raise ValueError from error  # {comment}
    raise ValueError  # {comment}
"""


def test_long_lines_of_source_make_an_event_neither_slow_nor_large(
    errors: Reporter, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = RECURSION.format(comment="token = 'password=' 'secret'; " * 30)
    monkeypatch.setitem(linecache.cache, "recursion.py", (len(source), None, source.splitlines(True), "recursion.py"))
    exec(compile(source, "recursion.py", "exec"), space := {"__name__": "recursion"})
    assert quickest(errors, space["fall"], 50, 5) < 0.1 * BUSY
    event = sink.expect(3)[0]
    frames = [frame for value in event["exception"]["values"] for frame in value["stacktrace"]["frames"]]
    assert len(frames) == 5 * 50 and all("context_line" in frame for frame in frames)
    assert frames[-1]["pre_context"]
    assert len(json.dumps(event)) < 500_000


def test_a_client_that_fails_breaks_nothing(
    errors: Reporter, sink: Sink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(errors._client, "deliver", lambda event: 1 // 0)
    assert errors.capture(caught(fail)) is None
    assert errors.capture_message("x") is None
    log.error("x", exc_info=caught(fail))
    assert "could not be reported" in caplog.text


def test_a_capture_takes_less_than_a_tenth_of_a_second_while_the_server_hangs(
    connect: Callable[..., Reporter], make_sink: Callable[..., Sink]
) -> None:
    errors = connect(make_sink(HANGS).dsn)
    seconds = sorted(seconds_of(errors, caught(fail, number)) for number in range(50))
    assert seconds[25] < 0.1 * BUSY
    assert seconds[-1] < 1  # one wait for the server takes two, a busy machine less


def test_a_full_outbox_costs_nothing_and_gives_no_id(
    connect: Callable[..., Reporter], make_sink: Callable[..., Sink], monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = connect(make_sink(HANGS).dsn)
    monkeypatch.setattr(errors._outbox, "_most_events", 3)
    assert [errors.capture(caught(fail)) is None for _ in range(5)] == [False, False, False, True, True]


def test_a_request_is_told_without_its_secrets_and_its_body(errors: Reporter, sink: Sink) -> None:
    class Body:
        def read(self, *_: int) -> bytes:
            raise AssertionError("the body is the view's")

    environ = {
        "REQUEST_METHOD": "POST", "PATH_INFO": "/tasks", "QUERY_STRING": f"a=b&%74oken={SECRET}&x=1",
        "HTTP_HOST": "example.test", "wsgi.url_scheme": "https", "wsgi.input": Body(), "CONTENT_TYPE": "x/y",
        "HTTP_AUTHORIZATION": f"Bearer {SECRET}", "HTTP_COOKIE": f"session={SECRET}", "HTTP_X_API_KEY": SECRET,
        "HTTP_X_AUTH_TOKEN": SECRET, "HTTP_USER_AGENT": "curl", "HTTP_REFERER": f"https://u:{SECRET}@h/?token={SECRET}",
    }  # fmt: skip
    errors.capture(caught(fail), request=environ)
    [event] = sink.expect(1)
    request = event["request"]
    assert (request["method"], request["url"]) == ("POST", "https://example.test/tasks")
    assert request["query_string"] == "a=b&token=[removed]&x=1"
    assert request["headers"]["User-Agent"] == "curl" and request["headers"]["Content-Type"] == "x/y"
    assert SECRET not in str(event)


def test_arguments_of_the_program_are_not_told(errors: Reporter, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["program", "--password", SECRET, f"--token={SECRET}"])
    errors.capture(caught(fail))
    [event] = sink.expect(1)
    assert SECRET not in str(event)
