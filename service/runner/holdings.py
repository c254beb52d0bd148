"""What a lane holds: the entries that are its to keep, the claims that wait, the attempts that have ended.

An entry stays known until Redis has said that it is settled, handed back or dropped, or that another runner has it.
For that long its lease is renewed, and recovery passes over it. What was refused, or cut short by an error, goes
to `again`: the lane reads the document anew, and judges.

The upkeep thread helps when a long task holds up the lane: it settles what has ended, and hands back what waits.
Only one of the two does so at a time. So when the lane has settled a batch, all of the batch is settled.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import TypeVar

from service.errors import SandboxError, StoreRefused
from service.observe import scrubber
from service.runner import outcomes
from service.runner.journal import Report
from service.runner.outcomes import Transition
from service.store import Change, Document, Entry, Moved, Store, document, to_each
from service.tasks.document import PRIORITIES, Task, encode
from service.tasks.lines import LINE_LIMIT, Unstored

_Item = TypeVar("_Item")
Move = Callable[[Sequence[Change]], Moved]

log = logging.getLogger("sandbox.runner")


class Held:
    """A claim that this runner holds: the document as stored, the entry that it names, and what becomes of it."""

    __slots__ = ("document", "entry", "lines", "pushed_back", "transition")

    def __init__(self, entry: Entry, document: Document) -> None:
        self.entry = entry
        self.document = document
        self.transition: Transition = outcomes.hand_back_unstarted
        self.lines: Unstored | None = None  # what its attempt has said, when it has ended
        self.pushed_back: tuple[str, float] | None = None  # a limit whose key is to rest for so many seconds

    @property
    def token(self) -> str:
        claim = self.document.task.claim
        return "" if claim is None else claim.token

    def change(self) -> Change:
        task = self.document.task
        return Change(self.document.text, task, self._after(task), self.entry, self.lines is not None)

    def _after(self, task: Task) -> Task:
        """What a handler left must not bring down its lane."""
        try:
            return self.transition(task)
        except Exception as error:
            log.error("the outcome of %s cannot be written down", task.uid, exc_info=error)
            self.transition = outcomes.failure(error)
            return self.transition(task)


class Refusal(Enum):
    """Why the store has refused a settlement, by what the document says now."""

    OUTDATED = "the claim is still ours, but the document has changed: try again with what it says now"
    ANSWER_LOST = "it was stored before, and only the answer was lost: judge the entry anew"
    UNCLAIMED = "no claim holds the task any more, or it is gone: judge the entry anew"
    TAKEN = "another claim holds the task: touch nothing more"


class Holdings:
    def __init__(self, store: Store, report: Report) -> None:
        self.waiting: deque[Held] = deque()
        self.ended: deque[Held] = deque()
        self.again: deque[Entry] = deque()
        self._store = store
        self._report = report
        self._known: dict[tuple[str, str], Entry] = {}
        self._writing = threading.Lock()

    def entries(self) -> list[Entry]:
        return list(self._known.values())

    def keep(self, entries: Iterable[Entry]) -> None:
        self._known.update([((entry.stream, entry.id), entry) for entry in entries])

    def release(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self._known.pop((entry.stream, entry.id), None)

    def look_again(self, entries: Iterable[Entry]) -> None:
        """The lane reads their documents anew: the entries may be stale, or another runner may have them."""
        entries = list(entries)
        self.keep(entries)
        self.again.extend(entries)

    def start_over(self) -> None:
        """After an error: whatever is known, and has no outcome to be settled, is judged anew."""
        with self._writing:
            _drain(self.waiting)
            ended = {held.entry for held in self.ended}
            self.again.clear()
            self.again.extend(entry for entry in self.entries() if entry not in ended)

    def taken_again(self) -> list[Entry]:
        return _drain(self.again)

    # --- settle ------------------------------------------------------------------------------------

    def settle_ended(self) -> None:
        """Writes down how attempts ended. Without an answer from Redis the outcomes are kept. Where partitions are
        apart, those of one that is away hold up no others.
        """
        with self._writing:  # also when nothing has ended: the upkeep thread may be about to settle it
            together = len(self._store.groups) == 1
            homes = {None if together else held.entry.partition for held in list(self.ended)}
            to_each(homes, lambda home: self._settle_all(self._taken(home), self._store.move))

    def settle_and_fetch(
        self,
        partition: int,
        queues: Sequence[str],
        consumer: str,
        count: int,
        priorities: Sequence[str] = PRIORITIES,
    ) -> list[Entry]:
        """The same, and fetches in the same round trip."""
        fetched: list[Entry] = []

        def move(changes: Sequence[Change]) -> Moved:
            moved, fetched[:] = self._store.move_and_fetch(changes, partition, queues, consumer, count, priorities)
            self.keep(fetched)  # known before anything else can fail
            return moved

        with self._writing:
            self._settle_all(_drain(self.ended), move)
        return fetched

    def _taken(self, home: int | None) -> list[Held]:
        """What has ended in this partition, or in any; the rest stays."""
        ended = _drain(self.ended)
        self.ended.extendleft(held for held in reversed(ended) if home not in (None, held.entry.partition))
        return [held for held in ended if home in (None, held.entry.partition)]

    def _settle_all(self, held: list[Held], move: Move) -> None:
        try:
            held = self._settle(held, move)
            while held:
                held = self._settle(held, self._store.move)
        except BaseException:
            self.ended.extendleft(one for one in reversed(held) if self._knows(one.entry))
            raise

    def write_lines(self, uid: str, lines: Unstored) -> None:
        """What a running attempt has said until now."""
        with self._writing:
            self._write([(uid, lines)])

    def _write(self, said: list[tuple[str, Unstored]]) -> None:
        """In one round trip, or in two where an answer was missing the last time. What Redis refuses is lost."""
        while portions := [(uid, lines, portion) for uid, lines in said if (portion := lines.take(_clean))]:
            try:
                self._store.logbook.write([(uid, portion) for uid, _, portion in portions])
            except StoreRefused as error:
                log.error("lines of tasks' logs are lost", exc_info=error, extra={"once": "lines"})
            for _, lines, portion in portions:
                lines.done(portion)

    def _knows(self, entry: Entry) -> bool:
        return (entry.stream, entry.id) in self._known

    def _settle(self, ended: Sequence[Held], move: Move) -> list[Held]:
        """One round; returns those to be tried again, against the document as it is now."""
        if said := [(held.entry.uid, held.lines) for held in ended if held.lines is not None]:
            self._write(said)
        self._push_back(ended)
        changes = [held.change() for held in ended]
        moved = move(changes)
        stored = [change for change, _ in moved.stored]
        self._report.outcomes([change.after for change in stored], [_entry_id(change) for change in stored])
        self.release(change.entry for change in stored if change.entry)
        if not moved.refused:
            return []
        refused = {change.entry: change for change in moved.refused}
        return [
            held
            for held in ended
            if (change := refused.get(held.entry)) and self._look_into(held, change) is Refusal.OUTDATED
        ]

    def _push_back(self, ended: Sequence[Held]) -> None:
        """Before the claims end, so that the end of none lets in another one of the same key."""
        for held in ended:
            if held.pushed_back is not None:
                self._store.limits.push_back(held.document.task, held.entry.partition, *held.pushed_back)
                held.pushed_back = None  # once: it may be settled anew

    def _look_into(self, held: Held, change: Change) -> Refusal:
        """A refused settlement proves nothing: what does the document say?"""
        [text] = self._store.texts([held.entry.uid])
        found = document(held.entry.uid, text)
        refusal = _why_refused(held, change, found)
        if refusal is Refusal.OUTDATED and found is not None:
            held.document = found
        elif refusal is Refusal.TAKEN:
            self.release([held.entry])
        else:
            self.look_again([held.entry])
        if refusal is Refusal.ANSWER_LOST:
            self._report.outcomes([change.after])
        return refusal

    # --- hand back -----------------------------------------------------------------------------------

    def hand_back_waiting(self) -> None:
        """What has not started goes to the front of its queue, for anybody."""
        with self._writing:
            waiting = _drain(self.waiting)
            if not waiting:
                return
            try:
                moved = self._store.move([held.change() for held in waiting])
            except SandboxError:
                self.look_again(held.entry for held in waiting)
                raise
            self.look_again(change.entry for change in moved.refused if change.entry)
            self.release(change.entry for change, _ in moved.stored if change.entry)


def _clean(text: str) -> str:
    return scrubber.line(text, LINE_LIMIT)


def _why_refused(held: Held, change: Change, document: Document | None) -> Refusal:
    if document is None:
        return Refusal.UNCLAIMED
    claim = document.task.claim
    if claim is None:
        return Refusal.ANSWER_LOST if document.text == encode(change.after) else Refusal.UNCLAIMED
    return Refusal.OUTDATED if claim.token == held.token else Refusal.TAKEN


def _entry_id(change: Change) -> str:
    return change.entry.id if change.entry else ""


def _drain(items: deque[_Item]) -> list[_Item]:
    drained: list[_Item] = []
    while True:
        try:
            drained.append(items.popleft())
        except IndexError:
            return drained
