"""What a lane holds: the entries that are its to keep, the claims that wait, the attempts that have ended.

An entry stays known until Redis has answered that it is settled, handed back or dropped, or that it is
somebody else's. So its lease is renewed for that long, and recovery passes over it. What was refused, or
cut short by an error, goes to `again`: the lane reads the document anew, and judges.

The upkeep thread helps when a long task holds up the lane: it settles what has ended, and hands back
what waits. Only one of the two does so at a time; so when the lane has settled a batch, all of it is.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from service.errors import SandboxError
from service.runner import outcomes
from service.runner.journal import Report
from service.runner.outcomes import Transition
from service.store import Change, Document, Entry, Moved, Store
from service.tasks import transitions
from service.tasks.document import Task, decode_or_none, encode

Move = Callable[[Sequence[Change]], Moved]

log = logging.getLogger("sandbox.runner")


class Held:
    """A claim that this runner holds: the document as stored, and the entry that it names."""

    __slots__ = ("document", "entry", "transition")

    def __init__(self, entry: Entry, document: Document) -> None:
        self.entry = entry
        self.document = document
        self.transition: Transition | None = None

    @property
    def token(self) -> str:
        claim = self.document.task.claim
        return "" if claim is None else claim.token


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
        """They may stand for something else by now, or be somebody else's."""
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

    # --- settle ------------------------------------------------------------------------------------

    def settle_ended(self) -> None:
        """Writes down how attempts ended. Not answered means not known: the outcomes are kept."""
        self._settle_all(self._store.move)

    def settle_and_fetch(self, partition: int, queues: Sequence[str], consumer: str, count: int) -> list[Entry]:
        """The same, and fetches in the same round trip."""
        fetched: list[Entry] = []

        def move(changes: Sequence[Change]) -> Moved:
            moved, fetched[:] = self._store.move_and_fetch(changes, partition, queues, consumer, count)
            self.keep(fetched)  # known before anything else can fail
            return moved

        self._settle_all(move)
        return fetched

    def _settle_all(self, move: Move) -> None:
        with self._writing:  # also when nothing has ended: the upkeep thread may be about to settle it
            held = _drain(self.ended)
            try:
                held = self._settle(held, move)
                while held:
                    held = self._settle(held, self._store.move)
            except BaseException:
                self.ended.extendleft(one for one in reversed(held) if self._knows(one.entry))
                raise

    def _knows(self, entry: Entry) -> bool:
        return (entry.stream, entry.id) in self._known

    def _settle(self, ended: Sequence[Held], move: Move) -> list[Held]:
        """One round; answers those to be tried again, against the document as it is now."""
        changes = [
            Change(held.document.text, held.document.task, _outcome(held.transition, held.document.task), held.entry)
            for held in ended
            if held.transition is not None
        ]
        moved = move(changes)
        stored = [change for change, _ in moved.stored]
        self._report.outcomes([change.after for change in stored], [_entry_id(change) for change in stored])
        refused = {change.entry: encode(change.after) for change in moved.refused}
        settled = [held for held in ended if held.transition is not None and held.entry not in refused]
        self.release(held.entry for held in settled)
        if len(settled) == len(ended):
            return []
        return [
            held
            for held in ended
            if (held.transition is None or held.entry in refused) and self._is_ours(held, refused.get(held.entry))
        ]

    def _is_ours(self, held: Held, wanted: bytes | None) -> bool:
        """A refused settlement proves nothing: what does the document say?"""
        [text] = self._store.texts([held.entry.uid])
        task = decode_or_none(text)
        if task is None or text is None or task.claim is None:
            if text is not None and text == wanted and task is not None:
                self._report.outcomes([task])  # it was stored, only the answer was lost
            self.look_again([held.entry])
            return False
        if task.claim.token != held.token:
            self.release([held.entry])  # another claim's token: it is lost, and nothing more is touched
            return False
        held.document = Document(task, text)
        held.transition = held.transition or partial(
            transitions.handed_back, ran=True
        )  # it was not cancelled after all
        return True

    # --- hand back -----------------------------------------------------------------------------------

    def hand_back_waiting(self) -> None:
        """What has not started goes to the front of its queue, for anybody."""
        with self._writing:
            waiting = _drain(self.waiting)
            if not waiting:
                return
            try:
                moved = self._store.move([_hand_back(held) for held in waiting])
            except SandboxError:
                self.look_again(held.entry for held in waiting)
                raise
            self.look_again(change.entry for change in moved.refused if change.entry)
            self.release(change.entry for change, _ in moved.stored if change.entry)


def _entry_id(change: Change) -> str:
    return change.entry.id if change.entry else ""


def _hand_back(held: Held) -> Change:
    text, task = held.document.text, held.document.task
    return Change(text, task, transitions.handed_back(task, ran=False), held.entry)


def _outcome(transition: Transition, task: Task) -> Task:
    """What a handler left must not bring down its lane."""
    try:
        return transition(task)
    except Exception as error:
        log.error("the outcome of %s cannot be written down", task.uid, exc_info=error)
        return outcomes.fail_now(error, task)


def _drain(items: deque[Held]) -> list[Held]:
    drained = []
    while True:
        try:
            drained.append(items.popleft())
        except IndexError:
            return drained
