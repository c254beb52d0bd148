"""The table of what a runner does with an entry: every row of it."""

from pathlib import Path
from typing import Any

import pytest

from service.runner.lockfile import NEVER, Remains
from service.runner.triage import Verdict, judge, judge_all
from service.store import Document, Entry
from service.tasks import moments
from service.tasks.document import Claim, Task, decode, encode
from service.tasks.registry import Registry

KNOWN = Registry.load(["service.builtin.demo"])
FRESH = Entry(0, "queue", "5-0", "u" * 64, None)
TAKEN = FRESH._replace(owner="runner-that-was")
THIS = Claim(consumer="runner-that-was", token="t1", stream="queue", entry="5-0")


def document(status: str, **fields: Any) -> Document:
    values = {"uid": "u" * 64, "type": "echo", "queue": "default", "created_at": moments.stamp(0), **fields}
    task = Task(status=status, **values)
    return Document(task, encode(task))


def remains(*tokens: str, stacks: str = "", deadline: float = NEVER) -> Remains:
    return Remains("runner-that-was", Path("lock"), dict.fromkeys(tokens, deadline), stacks)


@pytest.mark.parametrize("entry", [FRESH, TAKEN])
class TestAnyEntry:
    def test_without_a_document_it_is_dropped(self, entry: Entry) -> None:
        assert judge(entry, None, KNOWN) is Verdict.DROP

    def test_of_a_document_that_cannot_be_read_it_is_left(self, entry: Entry) -> None:
        [finding] = judge_all([entry._replace(text=b"{")], KNOWN)
        assert finding.verdict is Verdict.LEAVE

    @pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled", "scheduled"])
    def test_of_a_task_that_does_not_wait_it_is_dropped(self, entry: Entry, status: str) -> None:
        assert judge(entry, document(status), KNOWN) is Verdict.DROP

    def test_of_a_queued_task_it_is_claimed(self, entry: Entry) -> None:
        assert judge(entry, document("queued"), KNOWN) is Verdict.CLAIM

    @pytest.mark.parametrize("change", [{"entry": "6-0"}, {"stream": "returned"}])
    def test_of_a_task_that_runs_under_another_entry_it_is_dropped(self, entry: Entry, change: dict[str, str]) -> None:
        claim = Claim(**{"consumer": "c", "token": "t", "stream": "queue", "entry": "5-0"} | change)
        assert judge(entry, document("running", claim=claim), KNOWN) is Verdict.DROP

    def test_of_an_unknown_type_it_is_postponed(self, entry: Entry) -> None:
        assert judge(entry, document("queued", type="from.tomorrow"), KNOWN) is Verdict.POSTPONE

    def test_of_a_task_with_an_unknown_field_it_is_postponed(self, entry: Entry) -> None:
        text = document("queued").text[:-1] + b',"colour":1}'
        assert judge(entry, Document(decode(text), text), KNOWN) is Verdict.POSTPONE

    def test_a_field_of_a_newer_release_that_is_null_does_not_matter(self, entry: Entry) -> None:
        text = document("queued").text[:-1] + b',"colour":null}'
        assert judge(entry, Document(decode(text), text), KNOWN) is Verdict.CLAIM


class TestTakenOver:
    """Running, and the document names this very entry."""

    def test_a_task_that_was_not_executing_is_claimed_uncharged(self) -> None:
        found = document("running", claim=THIS, started_at=moments.stamp(1))
        assert judge(TAKEN, found, KNOWN, remains("another")) is Verdict.CLAIM

    def test_the_executing_one_is_charged_a_crash(self) -> None:
        assert judge(TAKEN, document("running", claim=THIS), KNOWN, remains("t1")) is Verdict.CLAIM_AFTER_CRASH

    def test_the_third_crash_is_the_last(self) -> None:
        found = document("running", claim=THIS, crashes=2)
        assert judge(TAKEN, found, KNOWN, remains("t1")) is Verdict.FAIL_BY_CRASHES

    def test_what_its_own_alarm_ended_has_timed_out(self) -> None:
        found = document("running", claim=THIS, timeout=1.0)
        assert judge(TAKEN, found, KNOWN, remains("t1", stacks="Thread 0x1", deadline=5.0)) is Verdict.FAIL_BY_TIMEOUT

    def test_without_a_lock_file_it_counts_as_executing(self) -> None:
        assert judge(TAKEN, document("running", claim=THIS), KNOWN) is Verdict.CLAIM_AFTER_CRASH
        started = document("running", claim=THIS, started_at=moments.stamp(1))
        assert judge(TAKEN, started, KNOWN) is Verdict.CLAIM_AFTER_CRASH

    def test_a_fresh_entry_never_is_the_one_that_a_running_task_names(self) -> None:
        assert judge(FRESH, document("running", claim=THIS), KNOWN) is Verdict.DROP
