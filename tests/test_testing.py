"""`service.testing`: what users see of an attempt in tests of their own."""

import logging
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from service import Cancelled, Context, Reject, Retry, TimedOut, task
from service.errors import InvalidTaskType
from service.testing import InvalidTask, NotInterrupted, Outcome, run
from tests.system.instance import ROOT


@task("echo", max_attempts=2)
def echo(context: Context, value: Any = None) -> Any:
    return value


@task("tell")
def tell(context: Context) -> dict[str, Any]:
    return context.facts


@task("steps")
def steps(context: Context, count: int = 3) -> int:
    for number in range(count):
        context.progress(number / count, f"step {number}")
        context.logger.info("did %d", number)
        logging.getLogger("of.the.user").warning("mind %d", number)
    return count


def raising(error: BaseException) -> Callable[..., Any]:
    @task("raising", max_attempts=2, timeout=7)
    def handler(context: Context) -> None:
        raise error

    return handler


def test_the_example_of_the_documentation_works(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "tasks.md").read_text()
    (tmp_path / "test_example.py").write_text("\n".join(re.findall(r"```python\n(.+?)```", page, re.DOTALL)))
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_example.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "7 passed" in done.stdout


def test_nothing_of_redis_and_of_the_web_is_loaded() -> None:
    program = "import sys, service.testing; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"redis", "hiredis", "flask", "gevent", "circus", "gunicorn", "psutil"} & {*done.stdout.split()}


def test_a_result_is_as_a_client_reads_it() -> None:
    assert run(echo, value={"days": [1, None]}).result == {"days": [1, None]}
    assert run(tell).result["attempt"] == 1

    @task("pair")
    def pair(context: Context) -> Any:
        return (1, 2)

    assert run(pair).result == [1, 2]


@pytest.mark.parametrize(("result", "told"), [({1, 2}, "not JSON-able"), ("x" * 300_000, "262,144 are allowed")])
def test_a_result_that_cannot_be_stored_fails(result: Any, told: str) -> None:
    @task("bad")
    def bad(context: Context) -> Any:
        return result

    outcome = run(bad)
    assert outcome.error is not None
    assert (outcome.status, outcome.error.type) == ("failed", "BadResult")
    assert told in outcome.error.message


def test_arguments_are_sent_as_json() -> None:
    @task("of.a.day")
    def of_a_day(context: Context, day: date, rows: int = 3) -> str:
        return f"{day:%d.%m.} {rows}"

    assert run(of_a_day, day="2026-05-01").result == "01.05. 3"
    assert run(of_a_day, {"day": date(2026, 5, 1)}, rows=4).result == "01.05. 4"


def test_an_argument_may_be_named_like_an_option() -> None:
    @task("named")
    def named(context: Context, attempt: int, args: str, handler: str) -> Any:
        return [context.attempt, attempt, args, handler]

    assert run(named, {"attempt": 7}, args="a", handler="h").result == [1, 7, "a", "h"]


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(InvalidTask, match="args: Object contains unknown field `colour`"):
        run(echo, colour="red")


def test_arguments_are_nested_as_deeply_as_a_client_may_send_them() -> None:
    value: list[Any] = []
    for _ in range(62):
        value = [value]
    assert run(echo, value=value).status == "succeeded"
    with pytest.raises(InvalidTask, match="args: nested more than 64 levels deep"):
        run(echo, value=[value])


@pytest.mark.parametrize(
    "error", [pytest.fail.Exception("no"), pytest.skip.Exception("not here"), KeyboardInterrupt(), GeneratorExit()]
)
def test_what_ends_a_test_is_no_outcome_of_its_handler(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised:
        run(raising(error))
    assert raised.value is error


def test_an_exit_of_a_handler_is_a_failure_as_in_a_runner() -> None:
    outcome = run(raising(SystemExit(3)))
    assert (outcome.status, type(outcome.exception)) == ("scheduled", SystemExit)


@pytest.mark.parametrize(("words", "shown"), [(("%s %s", 1), "%s %s [1]"), (("%d", "x"), "%d ['x']")])
def test_a_log_call_with_wrong_arguments_is_logged_all_the_same(words: tuple[Any, ...], shown: str) -> None:
    @task("misspelt")
    def misspelt(context: Context) -> str:
        context.logger.info(*words)
        logging.getLogger("of.the.user").warning(*words)
        return "done"

    outcome = run(misspelt)
    assert (outcome.result, outcome.logs) == ("done", [("info", shown), ("warning", shown)])


def test_a_handler_knows_what_it_is_told() -> None:
    told = run(tell, attempt=2, uid="a" * 64, request_id="r-1").result
    assert told == {"uid": "a" * 64, "type": "tell", "attempt": 2, "request_id": "r-1"}
    assert run(tell).result["uid"] != run(tell).result["uid"]


def test_a_failure_is_tried_again_while_attempts_are_left() -> None:
    error = ValueError("no such month")
    first, last = run(raising(error)), run(raising(error), attempt=2)
    assert first.error is not None
    assert (first.status, first.error.type, first.error.message) == ("scheduled", "ValueError", "no such month")
    assert first.exception is error
    assert first.retry_after is not None and 0.5 <= first.retry_after <= 1
    assert (last.status, last.retry_after) == ("failed", None)


def test_retry_says_when_and_reject_says_never() -> None:
    again, never = run(raising(Retry("busy", after=90.5))), run(raising(Reject("no")))
    assert (again.status, again.retry_after) == ("scheduled", 90.5)
    assert (never.status, never.retry_after) == ("failed", None)
    assert never.error is not None and never.error.message == "no"


def test_all_progress_and_all_lines_are_kept_in_order(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    root = logging.getLogger()
    handlers = [*root.handlers]
    outcome = run(steps, count=2)
    assert outcome.progress == [(0.0, "step 0"), (0.5, "step 1")]
    assert outcome.logs == [("info", "did 0"), ("warning", "mind 0"), ("info", "did 1"), ("warning", "mind 1")]
    assert (root.level, root.handlers) == (logging.ERROR, handlers)


class OfALibrary(float):
    """As numpy has one."""


@pytest.mark.parametrize("half", [Decimal("0.5"), Fraction(1, 2), OfALibrary(0.5), 0.5])
def test_progress_may_be_any_number(half: Any) -> None:
    @task("half")
    def handler(context: Context) -> None:
        context.progress(half)

    outcome = run(handler)
    assert (outcome.status, outcome.progress) == ("succeeded", [(0.5, "")])
    assert type(outcome.progress[0].fraction) is float


def test_impossible_progress_fails_as_in_a_runner() -> None:
    @task("too.much")
    def too_much(context: Context) -> None:
        context.progress(2)

    outcome = run(too_much)
    assert outcome.error is not None and outcome.error.message == "progress is from 0 to 1, not 2"
    assert outcome.progress == []


@pytest.mark.parametrize(("end", "status"), [(Cancelled, "cancelled"), (TimedOut, "scheduled")])
def test_a_handler_is_interrupted_where_it_tells_its_progress(end: Any, status: str) -> None:
    cleaned: list[bool] = []

    @task("cleans.up", timeout=7)
    def cleans_up(context: Context) -> None:
        try:
            steps(context)
        except Exception:
            pytest.fail("an interruption is no Exception")
        finally:
            cleaned.append(context.cancelled)

    outcome = run(cleans_up, interrupt=end, at_progress=2)
    assert cleaned == [True]
    assert outcome.status == status
    assert [message for _, message in outcome.progress] == ["step 0", "step 1"]
    if end is TimedOut:
        assert outcome.error is not None
        assert outcome.error.message == "the attempt took longer than its timeout of 7 s"


def test_a_cancelled_task_stays_cancelled_whatever_its_handler_does() -> None:
    @task("goes.on")
    def goes_on(context: Context) -> str:
        try:
            context.progress(0.5)
        except Cancelled:
            return "done all the same"
        return "not interrupted"

    assert run(goes_on).result == "not interrupted"
    outcome = run(goes_on, interrupt=Cancelled)
    assert (outcome.status, outcome.result) == ("cancelled", None)


def test_an_interruption_that_never_came_fails_the_test() -> None:
    with pytest.raises(NotInterrupted, match=r"called context\.progress 3 times, not 4"):
        run(steps, interrupt=Cancelled, at_progress=4)
    error = ValueError("before any progress")
    with pytest.raises(NotInterrupted) as failed:
        run(raising(error), interrupt=Cancelled)
    assert failed.value.__cause__ is error


def test_a_function_that_is_no_task_type_is_refused() -> None:
    with pytest.raises(InvalidTaskType, match=r"it lacks @task\(\.\.\.\)"):
        run(lambda context: None)


def test_an_outcome_shows_what_there_is_to_see() -> None:
    assert repr(run(echo, value=1)) == "Outcome(status='succeeded', result=1)"
    shown = repr(run(raising(Reject("no"))))
    assert shown.startswith("Outcome(status='failed', error=TaskError(type='Reject', message='no'")
    assert "exception=Reject('no')" in shown
    assert isinstance(run(echo), Outcome)


def test_what_a_task_says_in_its_log_is_in_the_logs() -> None:
    @task("says")
    def says(context: Context) -> int:
        context.log("one")
        context.logger.warning("two")
        return context.run(["sh", "-c", "echo three; exit 4"]).returncode

    outcome = run(says)
    assert outcome.logs == [("info", "one"), ("warning", "two"), ("info", "three")]
    assert outcome.result == 4


def test_a_program_that_fails_is_an_error_where_that_is_wished() -> None:
    @task("checks")
    def checks(context: Context) -> None:
        context.run(["sh", "-c", "exit 4"], check=True)

    outcome = run(checks)
    assert outcome.error is not None and outcome.error.type == "CalledProcessError"


@task("fan.out")
def fan_out(context: Context, keys: list[str]) -> list[str]:
    context.create("page.fetch", address="/")
    return context.create_many("page.fetch", [{"address": key} for key in keys], keys=keys)


def test_what_a_handler_creates_is_told_and_another_attempt_gets_the_same_uids() -> None:
    outcome, again = (run(fan_out, keys=["a", "b"], uid="c" * 64, attempt=attempt) for attempt in (1, 2))
    assert [(each.type, each.args, each.key) for each in outcome.created] == [
        ("page.fetch", {"address": "/"}, None),
        ("page.fetch", {"address": "a"}, "a"),
        ("page.fetch", {"address": "b"}, "b"),
    ]
    assert outcome.result == [each.uid for each in outcome.created[1:]] == again.result
    assert outcome.created == again.created
    assert not {*run(fan_out, keys=["a"], uid="d" * 64).result} & {*outcome.result}


def test_a_child_that_is_there_already_is_not_created_once_more() -> None:
    @task("twice")
    def twice(context: Context) -> list[str]:
        return [context.create("page.fetch", key="a", address=address) for address in ("/", "/other")]

    outcome = run(twice)
    [child] = outcome.created
    assert outcome.result == [child.uid, child.uid] and child.args == {"address": "/"}
