"""What a list, or an act on many tasks, is asked for: a filter. It is JSON in the document of such an act.

Shelves know type, queue, status and creation time. For all else the documents are read.
"""

import re
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from service.tasks import moments, untyped
from service.tasks.document import STATUSES, SUCCEEDED, UNREADABLE, UNREADABLE_ERROR, Task

UID_BEGINNING: Final = re.compile(r"[0-9a-f]{8,64}")
_ARGUMENT: Final = re.compile(r"args\.([^=]{1,100})=(.{0,100})")
LONGEST_VALUE: Final = 2048  # bytes of JSON that the hundred characters of a search may stand for
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Position(NamedTuple):
    """A place in the list, newest first: creation time in microseconds, then the UID."""

    created: int
    uid: str


class Filter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Nothing named means: any. Of several types, queues or statuses, a task has one of them."""

    type: tuple[str, ...] = ()
    queue: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    created_by: str | None = None
    created_after: str | None = None  # created at this moment or later
    created_before: str | None = None  # created earlier than this moment
    error: str | None = None  # the type of its error
    q: str | None = None  # a UID's beginning, or args.name=value
    parent: str | None = None  # the UID of the task that created it
    schedule: str | None = None  # the name of the schedule that created it

    @property
    def is_of_shelves(self) -> bool:
        """Shelves know all that it asks for."""
        of_documents = (self.created_by, self.error, self.q, self.parent, self.schedule)
        return UNREADABLE not in self.status and all(each is None for each in of_documents)

    @property
    def shelved(self) -> tuple[str, ...]:
        """The statuses of the shelves on which it may find something; none means: of all."""
        if UNREADABLE in self.status or self.error == UNREADABLE_ERROR:
            return ()  # what cannot be read stands where it stood
        if self.error is not None and not self.status:
            return tuple(status for status in STATUSES if status != SUCCEEDED)  # no such task has an error
        return self.status

    @property
    def uid(self) -> str:
        """The beginning of the UIDs that it admits."""
        return self.q if self.q is not None and UID_BEGINNING.fullmatch(self.q) else ""

    @property
    def since(self) -> int | None:
        """The lowest creation time, in microseconds."""
        return None if self.created_after is None else moments.microseconds(self.created_after)

    def begin(self, after: Position | None) -> Position | None:
        """Where its list begins that goes on after a position."""
        if self.created_before is None:
            return after
        newest = Position(moments.microseconds(self.created_before), "")
        return newest if after is None else min(after, newest)

    def admits(self, task: Task) -> bool:
        return (
            _has(self.type, task.type)
            and _has(self.queue, task.queue)
            and _has(self.status, task.status)
            and self.created_by in (None, task.created_by)
            and (self.created_after is None or task.created_at >= self.created_after)
            and (self.created_before is None or task.created_at < self.created_before)
            and (self.error is None or (task.error is not None and task.error.type == self.error))
            and (self.q is None or _finds(self.q, task))
            and self.parent in (None, task.parent)
            and self.schedule in (None, task.schedule)
        )


EVERYTHING: Final = Filter()


class Argument(NamedTuple):
    """A task's argument, perhaps a member inside of it, and the value wanted: its text, or its JSON."""

    path: tuple[str, ...]
    text: str
    values: tuple[Any, ...]

    def fits(self, args: msgspec.Raw) -> bool:
        found = args
        for name in self.path:
            try:
                found = _members(found)[name]
            except (msgspec.MsgspecError, KeyError):
                return False
        if len(bytes(found)) > LONGEST_VALUE:
            return False
        value = untyped.decode(found)
        return any(type(value) is type(wanted) and value == wanted for wanted in self.values)


@lru_cache(maxsize=256)
def argument(q: str) -> Argument | None:
    """None unless it is args.name=value."""
    found = _ARGUMENT.fullmatch(q)
    if found is None:
        return None
    values: list[Any] = [found[2]]
    with suppress(msgspec.MsgspecError, ValueError, RecursionError):
        values.append(untyped.decode(found[2].encode("utf-8", "replace")))
    if isinstance(values[-1], int) and not isinstance(values[-1], bool):
        values.append(float(values[-1]) if abs(values[-1]) < 2**53 else values[-1])
    return Argument(tuple(found[1].split(".")), found[2], tuple(values))


def _finds(q: str, task: Task) -> bool:
    if (wanted := argument(q)) is None:
        return task.uid.startswith(q)
    return wanted.fits(task.args)


def _has(wanted: tuple[str, ...], value: str) -> bool:
    return not wanted or value in wanted
