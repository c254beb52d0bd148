"""Unique tasks: of one type and one key there is one at a time. Pure.

A rule says where the key comes from: a text, or the values of arguments. A task's document names its key. Who has the
key is on record in Redis, in the partition that the key chooses: docs/unique.md.
"""

import hashlib
from collections.abc import Collection
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from service.tasks.document import QUEUED, RUNNING, Task, Unique

STARTED: Final = "started"
FINISHED: Final = "finished"
RETURN: Final = "return"
REJECT: Final = "reject"
REPLACE: Final = "replace"
KEEP_LAST: Final = "keep_last"

LONGEST_KEY: Final = 200
LEAVES: Final = "leaves"
TAKES: Final = "takes"
ASKS: Final = "asks"

_encode = msgspec.json.Encoder(order="deterministic").encode


class OfArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The key is made of the values of these arguments, their defaults included."""

    args: Annotated[tuple[str, ...], Meta(min_length=1, max_length=20)]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: Annotated[str, Meta(min_length=1, max_length=LONGEST_KEY)] | OfArguments
    until: Literal["started", "finished"] = "finished"
    on_conflict: Literal["return", "reject", "replace", "keep_last"] = "return"

    def problem(self, arguments: Collection[str], secret: Collection[str]) -> str | None:
        """Why a type with these arguments cannot have this rule."""
        if self.on_conflict == KEEP_LAST and self.until == STARTED:
            return "keep_last waits for the end of a task: leave out until, or take replace"
        for name in () if isinstance(self.key, str) else self.key.args:
            if name not in arguments:
                return f"key names the argument {name!r}, which the type does not have"
            if name in secret:
                return f"key names {name!r}, which is a secret; a key stands in the document for all readers"
        return None

    def unique(self, values: Any) -> Unique:
        """For a task with these arguments, an attribute each."""
        if isinstance(self.key, str):
            return Unique(self.key, self.until, self.on_conflict)
        text = _encode({name: getattr(values, name) for name in self.key.args})
        shown = text.decode() if len(text) <= LONGEST_KEY else f"sha256:{hashlib.sha256(text).hexdigest()}"
        return Unique(shown, self.until, self.on_conflict)


def lock(task_type: str, unique: Unique) -> str:
    """What a type's key is called in Redis. Its beginning chooses the partition, as that of a UID does."""
    return hashlib.sha256(f"{task_type}\n{unique.key}".encode()).hexdigest()[:32]


def has_started(task: Task) -> bool:
    """Also one that waits for another attempt has."""
    return task.status == RUNNING or task.attempt > 0


def effect(before: Task, after: Task) -> str:
    """What a change of a task with a unique key does to the key: the task leaves it, takes it again, only asks whether
    it waits behind another one, or nothing.
    """
    assert before.unique is not None
    if before.finished:
        return "" if after.finished else TAKES
    if after.finished or (before.unique.until == STARTED and after.status == RUNNING):
        return LEAVES
    is_claim = (before.status, after.status) == (QUEUED, RUNNING)
    return ASKS if is_claim and before.unique.on_conflict in (REPLACE, KEEP_LAST) else ""
