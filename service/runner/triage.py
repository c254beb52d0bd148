"""What a runner does with an entry, by what the document says. Pure.

| document                      | entry is fresh | entry was taken over                             |
| none, or finished             | drop           | drop                                             |
| scheduled                     | drop           | drop: its due time is on record                  |
| queued                        | claim          | claim                                            |
| running, naming this entry    | -              | claim anew, and count a crash if it is to blame; |
|                               |                | fail it at the cap, or when it was overdue       |
| running, naming another entry | drop           | drop                                             |

What this release does not understand (a type, a field) goes back untouched, for another one to take. An entry whose
document cannot be read is left as it is: it stays pending, and is looked at again when its lease has run out.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Final, NamedTuple

from service.runner.lockfile import Remains
from service.store import Document, Entry, document
from service.tasks import transitions
from service.tasks.document import QUEUED, RUNNING, SCHEDULED, Task, not_understood
from service.tasks.registry import Registry


class Verdict(Enum):
    DROP = "drop"
    CLAIM = "claim"
    CLAIM_AFTER_CRASH = "claim after a crash"
    FAIL_BY_CRASHES = "fail by crashes"
    FAIL_BY_TIMEOUT = "fail by timeout"
    POSTPONE = "postpone"
    LEAVE = "leave"


CRASHES: Final = frozenset((Verdict.CLAIM_AFTER_CRASH, Verdict.FAIL_BY_CRASHES, Verdict.FAIL_BY_TIMEOUT))
CLAIMS: Final = frozenset((Verdict.CLAIM, Verdict.CLAIM_AFTER_CRASH))


class Finding(NamedTuple):
    entry: Entry
    document: Document | None
    verdict: Verdict
    event_id: str | None = None  # under which its runner's crash was reported


def judge_all(entries: Iterable[Entry], registry: Registry, remains: Remains | None = None) -> list[Finding]:
    findings = []
    for entry in entries:
        found = document(entry.uid, entry.text)
        findings.append(Finding(entry, found, judge(entry, found, registry, remains)))
    return findings


def judge(entry: Entry, document: Document | None, registry: Registry, remains: Remains | None = None) -> Verdict:
    """`remains` are those of the entry's owner, where its lock file is here. Without it, nobody knows what a claim was
    doing when its lease ran out. It counts as executing: else a task that hangs its host would go from host to host.
    """
    if document is not None and not document.is_readable:
        return Verdict.LEAVE
    if document is None or document.task.finished or document.task.status == SCHEDULED:
        return Verdict.DROP
    task = document.task
    if task.status == RUNNING and not (entry.owner and _names(task, entry)):
        return Verdict.DROP
    if registry.get(task.type) is None or not_understood(task):
        return Verdict.POSTPONE
    if task.status == QUEUED or not _is_to_blame(task, remains):
        return Verdict.CLAIM
    if remains is not None and task.claim is not None and remains.overdue(task.claim.token):
        return Verdict.FAIL_BY_TIMEOUT
    return Verdict.FAIL_BY_CRASHES if task.crashes + 1 >= transitions.CRASH_LIMIT else Verdict.CLAIM_AFTER_CRASH


def _names(task: Task, entry: Entry) -> bool:
    return task.claim is not None and (task.claim.stream, task.claim.entry) == (entry.stream, entry.id)


def _is_to_blame(task: Task, remains: Remains | None) -> bool:
    """Was its handler executing when its runner ended, or got stuck?"""
    return remains is None or (task.claim is not None and remains.blames(task.claim.token))
