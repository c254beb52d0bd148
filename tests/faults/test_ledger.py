"""A ledger that adds up although something went wrong would prove nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.ledger import SPOILED, Ledger

UID = "a" * 64


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """One task, accepted."""
    ledger = Ledger(tmp_path / "runs")
    ledger.accept([UID], "alone")
    return ledger


def note(ledger: Ledger, *lines: str) -> None:
    """What the handlers wrote: what, attempt, pid, second."""
    with ledger.runs.open("a") as file:
        file.writelines(f"{what} {UID} {rest}\n" for what, rest in (line.split(" ", 1) for line in lines))


def document(status: str = "succeeded", result: Any = (1, 7), **fields: Any) -> dict[str, bytes]:
    task = {"status": status, "result": result, "error": None, "crashes": 0, **fields}
    return {UID: json.dumps(task).encode()}


def test_a_task_that_ran_once_adds_up(ledger: Ledger) -> None:
    note(ledger, "begun 1 7 10", "ended 1 7 11")
    assert ledger.problems(document()) == []


def test_a_task_that_is_gone_is_lost(ledger: Ledger) -> None:
    assert ledger.problems({}) == [f"{UID} is lost"]


@pytest.mark.parametrize("status", ["queued", "running", "scheduled", "cancelled", "failed"])
def test_a_task_that_does_not_finish_is_seen(ledger: Ledger, status: str) -> None:
    [problem] = ledger.problems(document(status))
    assert problem == f"{UID} is {status}: None"


def test_a_result_that_no_run_gave_is_seen(ledger: Ledger) -> None:
    note(ledger, "begun 1 7 10")
    [problem] = ledger.problems(document())
    assert "a result that no run of it gave" in problem


def test_a_second_run_needs_a_reason(ledger: Ledger) -> None:
    note(ledger, "begun 1 7 10", "begun 2 8 20", "ended 2 8 21")
    [problem] = ledger.problems(document(result=[2, 8]))
    assert "ran again for no reason" in problem


def test_a_blow_to_the_process_of_the_first_is_a_reason(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    note(ledger, "begun 1 7 10", "begun 2 8 20", "ended 2 8 21")
    monkeypatch.setattr("time.monotonic", lambda: 15.0)
    ledger.strike("runner killed", [7])
    assert ledger.problems(document(result=[2, 8])) == []
    assert "after runner killed 1" in ledger.table()


@pytest.mark.parametrize(("pid", "at"), [(8, 15.0), (7, 25.0)])
def test_a_blow_to_another_process_or_a_later_one_is_no_reason(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, pid: int, at: float
) -> None:
    note(ledger, "begun 1 7 10", "begun 2 8 20", "ended 2 8 21")
    monkeypatch.setattr("time.monotonic", lambda: at)
    ledger.strike("runner killed", [pid])
    assert len(ledger.problems(document(result=[2, 8]))) == 1


def test_a_failure_on_purpose_is_a_reason(ledger: Ledger) -> None:
    note(ledger, "begun 1 7 10", "failed 1 7 11", "begun 2 7 20", "ended 2 7 21")
    assert ledger.problems(document(result=[2, 7])) == []


def test_a_document_that_could_not_be_read_for_a_while_is_a_reason(ledger: Ledger) -> None:
    note(ledger, "begun 1 7 10", "begun 2 8 20", "ended 2 8 21")
    ledger.spoil(UID)
    ledger.look({UID: SPOILED})
    assert ledger.problems(document(result=[2, 8])) == []
    assert "after document spoiled 1" in ledger.table()


def test_a_task_that_was_seen_finished_may_neither_change_nor_run_again(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(ledger, "begun 1 7 10", "ended 1 7 11")
    monkeypatch.setattr("time.monotonic", lambda: 12.0)
    ledger.look(document())
    note(ledger, "begun 2 8 20", "ended 2 8 21")
    changed, again = sorted(ledger.problems(document(result=[2, 8])))
    assert changed.endswith("has changed since it was finished")
    assert "ran again after it was finished" in again


def test_a_task_that_nobody_asked_for_is_seen(ledger: Ledger) -> None:
    note(ledger, "begun 1 7 10", "ended 1 7 11")
    documents = document() | {"b" * 64: b"{}"}
    assert ledger.problems(documents) == ["1 tasks that nobody was promised; 0 may be"]
    ledger.leave_open(1)
    assert ledger.problems(documents) == []


def test_a_handler_that_held_its_process_is_a_reason_and_explains_its_end(ledger: Ledger, tmp_path: Path) -> None:
    log = tmp_path / "circus.log"
    ended = "sandbox-runner (process {}) was ended by signal 64; another one is started"
    log.write_text("".join(json.dumps({"message": ended.format(pid)}) + "\n" for pid in (7, 8)))
    note(ledger, "begun 1 7 10", "held 1 7 11", "begun 2 9 20", "ended 2 9 21")
    assert ledger.problems(document(result=[2, 9])) == []
    [problem] = ledger.unexplained(log)
    assert "process 8" in problem


@pytest.mark.parametrize(
    ("status", "error", "fine"),
    [
        ("cancelled", None, True),
        ("failed", "TimedOut", True),
        ("failed", "BadInterruption", False),
        ("running", None, False),
    ],
)
def test_what_never_ends_is_cancelled_or_times_out(ledger: Ledger, status: str, error: str | None, fine: bool) -> None:
    ledger.endless.add(UID)
    note(ledger, "begun 1 7 10", "held 1 7 11")
    problems = ledger.problems(document(status, result=None, error=error and {"type": error}))
    assert (problems == []) is fine


OTHER = "b" * 64


def two_of_a_key(ledger: Ledger, second_begins: int) -> dict[str, bytes]:
    ledger.accept([OTHER], "alone")
    ledger.unique |= {UID: "k", OTHER: "k"}
    note(ledger, "begun 1 7 10", "ended 1 7 15")
    with ledger.runs.open("a") as file:
        file.write(f"begun {OTHER} 1 8 {second_begins}\nended {OTHER} 1 8 20\n")
    [text] = document(result=[1, 8]).values()
    return document() | {OTHER: text}


def test_of_a_unique_key_one_runs_after_the_other(ledger: Ledger) -> None:
    assert ledger.problems(two_of_a_key(ledger, 16)) == []


def test_two_of_a_unique_key_that_run_at_the_same_time_are_seen(ledger: Ledger) -> None:
    [problem] = ledger.problems(two_of_a_key(ledger, 14))
    assert "at the same time with the unique key k" in problem


def test_one_that_was_taken_over_from_a_process_may_go_on_there(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 12.0)
    ledger.strike("runner frozen", [7])
    assert ledger.problems(two_of_a_key(ledger, 14)) == []


def test_what_gave_way_for_another_one_has_not_run(ledger: Ledger) -> None:
    ledger.unique[UID] = "k"
    replaced = document("cancelled", result=None, error={"type": "Replaced"})
    assert ledger.problems(replaced) == []
    note(ledger, "begun 1 7 10")
    [problem] = ledger.problems(replaced)
    assert "gave way for another one, and ran" in problem


def three_of_a_limited_key(ledger: Ledger, third_begins: int) -> dict[str, bytes]:
    uids = [UID, OTHER, "c" * 64]
    ledger.accept(uids, "alone")
    ledger.limited |= dict.fromkeys(uids, "x")
    documents = {}
    with ledger.runs.open("a") as file:
        for pid, (uid, begins) in enumerate(zip(uids, (10, 11, third_begins), strict=True)):
            file.write(f"begun {uid} 1 {pid} {begins}\nended {uid} 1 {pid} {begins + 5}\n")
            [documents[uid]] = document(result=[1, pid]).values()
    return documents


def test_of_a_limited_key_so_many_run_at_the_same_time(ledger: Ledger) -> None:
    assert ledger.problems(three_of_a_limited_key(ledger, 15)) == []


def test_one_more_of_a_limited_key_is_seen(ledger: Ledger) -> None:
    [problem] = ledger.problems(three_of_a_limited_key(ledger, 14))
    assert "3 ran at the same time with the limited key x" in problem


def of_a_schedule(uid: str, second: int) -> dict[str, bytes]:
    [text] = document(schedule="soak", scheduled_for=f"2026-01-01T00:00:{second:02}Z").values()
    return {uid: text}


def test_what_a_schedule_has_created_is_accepted(ledger: Ledger) -> None:
    ledger.fired["soak"] = 1
    note(ledger, "begun 1 7 10", "ended 1 7 11")
    with ledger.runs.open("a") as file:
        file.write(f"begun {OTHER} 1 7 10\nended {OTHER} 1 7 11\n")
    assert ledger.problems(document() | of_a_schedule(OTHER, 1)) == []


def test_two_tasks_for_one_time_or_another_number_are_seen(ledger: Ledger) -> None:
    ledger.fired["soak"] = 3
    ledger.accepted.clear()
    problems = ledger.problems(of_a_schedule(UID, 1) | of_a_schedule(OTHER, 1))
    assert any("2 tasks for one time" in problem for problem in problems)
    assert any("says that it has created 3 tasks; there are 2" in problem for problem in problems)
