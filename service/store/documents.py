"""What is stored under a UID, read as a task. Everything that reads a document reads it here.

A text that is no task document is never an error here: it is read as a task with the status `unreadable`, whose
error says what is wrong. Transitions refuse such a task, so nothing overwrites the text; only a purge removes it.
"""

from typing import NamedTuple

import msgspec

from service.tasks import moments
from service.tasks.document import STATUSES, UNREADABLE, UNREADABLE_ERROR, Task, TaskError, decode, storable_text

NEVER = moments.stamp(0)


class Document(NamedTuple):
    """A task, and the text that is stored for it."""

    task: Task
    text: bytes

    @property
    def is_readable(self) -> bool:
        return self.task.status != UNREADABLE

    @property
    def problem(self) -> str:
        """Why it cannot be read."""
        return self.task.error.message if self.task.error and not self.is_readable else ""


def document(uid: str, text: bytes | None) -> Document | None:
    """None if nothing is stored."""
    if text is None:
        return None
    try:
        task = decode(text)
        _check(uid, task, text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        task = _unreadable(uid, str(error))
    return Document(task, text)


def _check(uid: str, task: Task, text: bytes) -> None:
    """What a decoder lets pass, and the rest of the program relies on."""
    if task.uid != uid:
        raise ValueError(f"it belongs to another UID: {task.uid}")
    if task.status not in STATUSES:
        raise ValueError(f"there is no status {task.status!r}")
    moments.microseconds(task.created_at)
    if task.started_at is not None:
        moments.microseconds(task.started_at)
    if task.run_at is not None:
        moments.microseconds(task.run_at)
    if not text.isascii():
        text.decode()


def _unreadable(uid: str, reason: str) -> Task:
    """Type, queue and creation time are known where the task is listed: they are on its shelf."""
    error = TaskError(type=UNREADABLE_ERROR, message=storable_text(f"what is stored is no task document: {reason}"))
    return Task(uid=uid, type="", queue="", status=UNREADABLE, created_at=NEVER, error=error)
