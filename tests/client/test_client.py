"""What the calls do: each test runs on the service and on the fake, with both kinds of client."""

import secrets
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from sandbox_client import Conflict, Invalid, NotFound, TimedOut


def test_a_task_is_created_and_its_end_waited_for(sandbox: Any) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    task = sandbox.create("echo", message={"text": "größer 🎉", "number": 0.1}, queue="reports", max_attempts=7)
    assert (task.type, task.queue, task.max_attempts) == ("echo", "reports", 7)
    assert task.args == {"message": {"text": "größer 🎉", "number": 0.1}}
    assert task.wait(timeout=60).status == "succeeded"
    assert task.finished and task.result == task.args["message"]
    assert before < task.created_at <= task.started_at <= task.finished_at
    assert task.error is None and task.attempt == 1 and task.duration >= 0
    assert task.document == sandbox.get(task.uid).document


def test_what_is_named_like_an_option_goes_into_a_dictionary(sandbox: Any) -> None:
    with pytest.raises(Invalid) as refused:
        sandbox.create("echo", {"queue": "reports"}, type="a")
    assert refused.value.field == "args"


def test_a_failed_task_says_why_and_is_run_again(sandbox: Any) -> None:
    task = sandbox.create("fail", message="oh", max_attempts=1).wait(timeout=60)
    assert (task.status, task.error.type, task.error.message) == ("failed", "RuntimeError", "oh")
    assert task.failures == 1 and not task.result
    task.retry()
    assert not task.finished
    assert task.wait(timeout=60).attempt == 1
    with pytest.raises(Conflict):
        task.cancel()


def test_a_task_with_a_delay_is_cancelled(sandbox: Any) -> None:
    task = sandbox.create("echo", delay=timedelta(hours=1))
    assert task.status == "scheduled"
    assert timedelta(minutes=59) < task.run_at - task.created_at <= timedelta(hours=1)
    assert task.cancel().status == "cancelled"
    assert task.refresh().finished
    with pytest.raises(Conflict) as refused:
        task.cancel()
    assert refused.value.status == 409
    assert task.retry().wait(timeout=60).status == "succeeded"


def test_a_task_runs_when_it_is_due(sandbox: Any) -> None:
    due = datetime.now(UTC) + timedelta(seconds=1)
    task = sandbox.create("echo", run_at=due)
    assert task.run_at == due
    assert task.wait(timeout=60).started_at >= due


def test_the_end_of_the_time_is_told_and_the_task_goes_on(sandbox: Any) -> None:
    task = sandbox.create("sleep", delay=3600)
    with pytest.raises(TimedOut, match=f"task {task.uid} is still scheduled after 1 s"):
        task.wait(timeout=1)
    with pytest.raises(TimeoutError):
        task.wait(timeout=0)
    assert task.cancel().wait().status == "cancelled"


def test_the_same_key_is_the_same_task(sandbox: Any) -> None:
    key = secrets.token_hex(8)
    task = sandbox.create("echo", message=1, idempotency_key=key)
    assert sandbox.create("echo", message=1, idempotency_key=key).uid == task.uid
    with pytest.raises(Invalid) as refused:
        sandbox.create("echo", message=2, idempotency_key=key)
    assert refused.value.field == "Idempotency-Key"
    with pytest.raises(ValueError, match="idempotency_key is empty"):
        sandbox.create("echo", message=1, idempotency_key="")
    with pytest.raises(ValueError, match="idempotency_key is empty"):
        sandbox.create_many([], idempotency_key="")
    for wrong in ("order-17\n", " order-17", "höhe"):
        with pytest.raises(ValueError, match="only characters of ASCII"):
            sandbox.create("echo", message=1, idempotency_key=wrong)
    assert sandbox.create("echo", message=1).uid != task.uid


def test_many_are_created_in_batches_and_a_second_run_creates_no_more(sandbox: Any) -> None:
    key = secrets.token_hex(8)
    many: list[Any] = [{"type": "echo", "args": {"message": number}, "delay": 3600} for number in range(1501)]
    tasks = sandbox.create_many(iter(many), idempotency_key=key)
    assert [task.args["message"] for task in tasks] == list(range(1501))
    again = sandbox.create_many(many, idempotency_key=key)
    assert [task.uid for task in again] == [task.uid for task in tasks]
    assert len({task.uid for task in tasks}) == 1501
    listed = islice(sandbox.tasks(status="scheduled"), 1501)
    assert [task.uid for task in listed] == [task.uid for task in reversed(tasks)]
    assert sandbox.create_many([]) == []


def test_a_wrong_task_among_many_is_named_and_how_to_go_on(sandbox: Any) -> None:
    many: list[Any] = [{"type": "echo", "delay": 3600}] * 1002 + [{"type": "nonsense"}]
    with pytest.raises(Invalid) as refused:
        sandbox.create_many(many, idempotency_key=(key := secrets.token_hex(8)))
    assert (refused.value.index, refused.value.field) == (1002, "type")
    assert refused.value.problem["index"] == 2
    assert refused.value.__notes__ == [f"1000 tasks were created before. To go on: idempotency_key={key!r}"]
    many[-1] = {"type": "echo"}
    assert len(sandbox.create_many(many, idempotency_key=key)) == 1003


def test_the_list_is_filtered_and_may_be_changed_on_the_way(sandbox: Any) -> None:
    for task in sandbox.tasks(status="scheduled"):
        task.cancel()
    made = sandbox.create_many([{"type": "echo", "queue": "reports", "delay": 3600}] * 203)
    found = []
    for task in sandbox.tasks(status="scheduled", type="echo", queue="reports"):
        found.append(task.uid)
        task.cancel()
    assert found == [task.uid for task in reversed(made)]
    assert [*sandbox.tasks(status="scheduled")] == []
    assert [*sandbox.tasks(created_by="nobody")] == []
    with pytest.raises(Invalid) as refused:
        next(sandbox.tasks(status="lost"))
    assert refused.value.field == "status"


def test_each_filter_of_the_list_is_there(sandbox: Any) -> None:
    [early] = sandbox.create_many([{"type": "echo", "args": {"message": "early"}}])
    failed = sandbox.create("fail", message="late", max_attempts=1).wait(timeout=60)
    early.wait(timeout=60)

    def found(**filters: Any) -> list[str]:
        return [task.uid for task in sandbox.tasks(**filters) if task.uid in (early.uid, failed.uid)]

    assert found(type=["echo", "fail"]) == found(status=["succeeded", "failed"]) == [failed.uid, early.uid]
    assert found(created_after=failed.created_at) == found(error="RuntimeError") == [failed.uid]
    assert found(created_before=failed.created_at) == found(q="args.message=early") == [early.uid]
    assert found(q=failed.uid[:12]) == [failed.uid]
    assert found(type="echo", error="RuntimeError") == []


def test_what_is_not_there_is_not_found(sandbox: Any) -> None:
    for uid in ("0" * 64, "../types", "a/b?c#d", "%"):
        with pytest.raises(NotFound) as refused:
            sandbox.get(uid)
        assert refused.value.problem["status"] == refused.value.status == 404
        assert refused.value.request_id and refused.value.request_id in str(refused.value)


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"type": "nonsense"}, "type"),
        ({"type": "echo", "queue": "unknown"}, "queue"),
        ({"type": "echo", "delay": 1, "run_at": datetime.now(UTC)}, "delay"),
        ({"type": "echo", "args": {"nonsense": 1}}, "args"),
    ],
)
def test_a_wrong_field_is_named(sandbox: Any, words: dict[str, Any], field: str) -> None:
    task_type, args = words["type"], words.get("args")
    options = {name: value for name, value in words.items() if name not in ("type", "args")}
    with pytest.raises(Invalid) as refused:
        sandbox.create(task_type, args, **options)
    assert refused.value.field == field
    assert refused.value.index is None
    assert refused.value.detail.startswith(f"{field}: ")


def test_of_a_unique_key_there_is_one_task_at_a_time(sandbox: Any) -> None:
    wanted = {"key": {"args": ["message"]}}
    first = sandbox.create("echo", message="once", delay=3600, unique=wanted)
    assert first.unique == ('{"message":"once"}', "finished", "return")
    assert sandbox.create("echo", message="once", unique=wanted).uid == first.uid
    assert sandbox.create("echo", message="twice", unique=wanted).uid != first.uid
    with pytest.raises(Conflict) as refused:
        sandbox.create("echo", message="once", unique=wanted | {"on_conflict": "reject"})
    assert refused.value.holder == first.uid
    second = sandbox.create("echo", message="once", delay=3600, unique=wanted | {"on_conflict": "replace"})
    first.refresh()
    assert (first.status, first.error.type) == ("cancelled", "Replaced")
    with pytest.raises(Conflict) as refused:
        first.retry()
    assert refused.value.holder == second.uid
    second.cancel()
    assert [each.parent for each in sandbox.tasks(parent=first.uid)] == []


def test_the_types_are_told_and_that_it_is_ready(sandbox: Any) -> None:
    [echo] = [each for each in sandbox.types() if each["type"] == "echo"]
    assert echo["description"] == "Returns its message."
    told = {"type", "description", "queue", "max_attempts", "timeout", "priority", "args", "secret", "paused"}
    told |= {"unique", "limits", "process"}
    assert echo.keys() == told
    assert sandbox.ready()
    assert sandbox.ready().failing == {}


def test_big_numbers_stay_exact(sandbox: Any) -> None:
    assert sandbox.create("echo", message=2**63 - 1).wait(timeout=60).result == 2**63 - 1


def test_what_is_no_json_is_refused_before_it_is_sent(sandbox: Any) -> None:
    with pytest.raises(TypeError):
        sandbox.create("echo", message=object())
    with pytest.raises(ValueError, match="JSON compliant"):
        sandbox.create("echo", message=float("nan"))
    with pytest.raises(TypeError, match="both"):
        sandbox.create("echo", {"message": 1}, message=2)


def test_a_finished_task_is_removed(sandbox: Any) -> None:
    waiting = sandbox.create("echo", message="bye", delay=3600, idempotency_key=None)
    with pytest.raises(Conflict):
        waiting.purge()
    waiting.cancel()
    waiting.purge()
    for call in (waiting.refresh, waiting.purge):
        with pytest.raises(NotFound):
            call()


def test_a_key_whose_task_was_removed_makes_a_new_one(sandbox: Any) -> None:
    key = secrets.token_hex(8)
    first = sandbox.create("echo", idempotency_key=key).wait(timeout=60)
    first.purge()
    assert sandbox.create("echo", idempotency_key=key).wait(timeout=60).created_at > first.created_at
