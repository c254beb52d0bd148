"""What the end of an attempt means for the document; no process, no Redis."""

import json
import logging
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

from service.errors import Cancelled, Interrupted, Reject, Retry, Stopping, TimedOut
from service.observe.logs import OF_ONE_TASK
from service.runner.attempt import encode_result, run
from service.runner.outcomes import BadResult
from service.runner.window import Window
from service.tasks import moments
from service.tasks.context import Context
from service.tasks.declare import MARK, TaskType, task
from service.tasks.document import Task


def running(**fields: Any) -> Task:
    values = {"uid": "u" * 64, "type": "t", "queue": "default", "created_at": moments.stamp(0), "attempt": 1, **fields}
    return Task(status="running", **values)


def ended(handler: Callable[..., Any], reason: type[Interrupted] | None = None, **fields: Any) -> Task:
    """The document after one attempt; with a reason, a runner has interrupted it."""
    found: TaskType = getattr(task("t")(handler), MARK)
    document, window = running(**fields), Window()
    window.reason = reason
    return run(found, Context(document), document, window)(document)


def sent(error: BaseException | None) -> type[Interrupted] | None:
    """Interruptions are those of a runner."""
    return type(error) if isinstance(error, Interrupted) else None


def raising(error: BaseException) -> Callable[..., None]:
    def handler(context: Any) -> None:
        raise error

    return handler


def test_a_result_is_stored() -> None:
    after = ended(lambda context: {"a": 1})
    assert (after.status, json.loads(bytes(after.result)), after.revision) == ("succeeded", {"a": 1}, 2)
    assert after.started_at is not None and after.finished_at is not None and after.duration is not None


class Ending(Exception):
    def __str__(self) -> str:
        raise SystemExit


def test_a_message_that_ends_the_process_is_left_out() -> None:
    after = ended(raising(Ending()), max_attempts=1)
    assert after.error is not None
    assert (after.status, after.error.message) == ("failed", "(its message could not be read)")


class Chat(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise ConnectionError("the chat is away")


def test_a_failure_stays_what_it_is_though_a_handler_of_log_records_fails() -> None:
    chat = Chat(level=logging.ERROR)
    logging.getLogger().addHandler(chat)
    try:
        after = ended(raising(ValueError("x")), max_attempts=1)
    finally:
        logging.getLogger().removeHandler(chat)
    assert after.error is not None
    assert (after.status, after.error.message) == ("failed", "x")


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), Retry("later")])
def test_a_failure_is_tried_again_while_attempts_are_left(error: BaseException) -> None:
    after = ended(raising(error), max_attempts=2)
    assert after.error is not None
    assert (after.status, after.failures, after.error.type) == ("scheduled", 1, type(error).__name__)
    last = ended(raising(error), max_attempts=2, failures=1)
    assert (last.status, last.failures, last.run_at) == ("failed", 2, None)


def test_retry_says_when() -> None:
    after = ended(raising(Retry("later", after=100)))
    assert after.run_at is not None and after.started_at is not None
    assert 99.9e6 < moments.microseconds(after.run_at) - moments.microseconds(after.started_at) < 101e6


def test_retry_may_push_back_a_limit_that_its_type_names() -> None:
    for raised, words in (
        (Retry("later", after=5, limit="nobody's"), 'Retry(limit="nobody\'s"): the type names these: -'),
        (Retry("later", limit="partner"), "Retry(limit='partner'): it goes with after=…"),
    ):
        after = ended(raising(raised), max_attempts=9)
        assert after.error is not None
        assert (after.status, after.error.type, after.error.message) == ("failed", "BadRetry", words)


def test_reject_is_final() -> None:
    after = ended(raising(Reject("no")), max_attempts=9)
    assert after.status == "failed"


def test_a_time_out_is_a_failure_like_any_other() -> None:
    after = ended(raising(TimedOut()), TimedOut, timeout=1.5)
    assert after.error is not None
    assert (after.status, after.failures) == ("scheduled", 1) and "1.5 s" in after.error.message


@pytest.mark.parametrize("interruption", [Stopping(), Cancelled()])
def test_what_the_runner_interrupts_is_not_charged(interruption: BaseException) -> None:
    """The document of a cancelled task says so already, and refuses this."""
    after = ended(raising(interruption), type(interruption))
    assert (after.status, after.attempt, after.failures, after.crashes) == ("queued", 1, 0, 0)


@pytest.mark.parametrize("own", [Stopping(), Cancelled(), TimedOut()])
def test_what_a_handler_raises_by_itself_is_a_failure_whatever_its_name(own: BaseException) -> None:
    after = ended(raising(own), max_attempts=2)
    assert after.error is not None
    assert (after.status, after.failures, after.error.type) == ("scheduled", 1, "BadInterruption")
    assert after.error.message == f"the handler raised {type(own).__name__}, and nobody has interrupted it"


@pytest.mark.parametrize("own", [Stopping(), Cancelled()])
def test_a_time_out_that_a_handler_turns_into_another_interruption_is_charged(own: BaseException) -> None:
    after = ended(raising(own), TimedOut, max_attempts=2)
    assert after.error is not None
    assert (after.status, after.failures, after.error.type) == ("scheduled", 1, "BadInterruption")
    assert after.error.message == f"the handler raised {type(own).__name__}, and TimedOut has interrupted it"


def test_an_error_without_a_readable_message_is_an_error_all_the_same() -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    after = ended(raising(Silent()), max_attempts=1)
    assert after.error is not None
    assert after.error.type == "Silent"


def test_a_long_message_is_cut() -> None:
    after = ended(raising(ValueError("x" * 100_000)), max_attempts=1)
    assert after.error is not None
    assert len(after.error.message) == 8192


def test_a_message_is_stored_without_secrets() -> None:
    told = "the database at postgres://ann:hunter2-x9@db/x, password=hunter2-x9"
    command = subprocess.CalledProcessError(1, ["mysql", "--password", "hunter2-x9"])
    for error in (ValueError(told), Reject(told), Retry(told), command):
        after = ended(raising(error))
        assert after.error is not None
        assert "hunter2" not in after.error.message and "[removed]" in after.error.message


@pytest.mark.parametrize(
    "value", [None, True, 0, 10**30, 1.5, "é\n", [], {"a": [1, {"b": None}]}, (1, 2), {"a": 10**300}, {"a": -1e300}]
)
def test_json_able_data_is_a_result(value: Any) -> None:
    assert json.loads(bytes(encode_result(value))) == (list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize("value", [{1}, b"x", object(), float("inf"), "\udcff", {"a": object()}, "x" * 262_143])
def test_anything_else_is_none(value: Any) -> None:
    with pytest.raises(BadResult):
        encode_result(value)


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize("value", [{1: 2, "1": 3}, [{"a": ({"true": 1, True: 2},)}], {None: 1, "null": 2}])
def test_a_result_with_two_members_of_one_name_is_none(value: Any) -> None:
    with pytest.raises(BadResult, match="two members that are both named"):
        encode_result(value)


def test_the_name_that_is_there_twice_is_told_as_it_is_in_json() -> None:
    rows = [(number, {"id": number}) for number in range(100)]
    with pytest.raises(BadResult, match="both named 'true' in JSON"):
        encode_result({"rows": [*rows, {"true": 1, True: 1}]})
    assert json.loads(bytes(encode_result({"rows": rows})))["rows"][99] == [99, {"id": 99}]


def test_names_that_are_no_text_are_written_as_text() -> None:
    assert encode_result({1: {2: 3}, "2": 4}) == Raw(b'{"1":{"2":3},"2":4}')


def test_a_result_is_nested_64_levels_deep_at_most() -> None:
    encode_result([nested(63), nested(63)])
    with pytest.raises(BadResult, match="64 levels"):
        encode_result([nested(64)])


def test_a_cycle_is_no_result() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(BadResult):
        encode_result(cycle)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_progress_is_a_fraction(fraction: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        Context(running()).progress(fraction)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "succeeded"), (ValueError("x"), "scheduled"), (Retry(), "scheduled"), (Reject("no"), "failed"),
        (TimedOut(), "scheduled"), (Stopping(), "queued"),
    ],
)  # fmt: skip
def test_what_a_handler_said_last_of_its_progress_is_settled_with_its_outcome(
    error: BaseException | None, status: str
) -> None:
    def handler(context: Context) -> None:
        context.progress(0.5, "half")
        context.progress(0.67, "two thirds")
        if error is not None:
            raise error

    after = ended(handler, sent(error))
    assert (after.status, after.revision) == (status, 2)
    assert json.loads(bytes(after.progress)) == {"fraction": 0.67, "message": "two thirds"}


def test_without_news_the_progress_stays_as_it_was() -> None:
    assert bytes(ended(lambda context: None).progress) == b"null"


@pytest.mark.parametrize(
    ("error", "attempts", "level"),
    [
        (ValueError("x"), 2, "WARNING"), (ValueError("x"), 1, "ERROR"), (TimedOut(), 2, "WARNING"),
        (TimedOut(), 1, "ERROR"), (Retry(after=-1), 9, "ERROR"), (Retry(), 2, None), (Reject("no"), 1, None),
        (Cancelled(), 1, None), (Stopping(), 1, None),
    ],
)  # fmt: skip
def test_a_failure_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture, error: BaseException, attempts: int, level: str | None
) -> None:
    """As an error if it is the last attempt, and else as a warning."""
    ended(raising(error), sent(error), max_attempts=attempts)
    said = [record for record in caplog.records if record.name == OF_ONE_TASK]
    found = [(record.levelname, record.exc_info is not None) for record in said]
    assert found == ([] if level is None else [(level, True)])
