"""Looks after the runners of this host that live, and that a handler holds up.

A handler that runs in C code, and never lets go of the interpreter, stops all of its process: nothing there renews a
lease, sees a cancel, or watches the clock. After HELD_UP_SECONDS the neighbours do that:

- They renew the lease of what it executes. What has ended there, and is not settled, is left to it for one lease. All
  else that it has claimed is taken over (recovery.py).
- When the task that it executes was cancelled, or is overdue, they end its process. The supervisor starts another one.
- They tell: in the log, by an error report, and in the folder of notices that GET /health/ready shows.
"""

import logging
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from service.runner import alarm
from service.runner.lockfile import HELD_UP_SECONDS, Presence, Remains, is_of
from service.runner.upkeep import Upkeep
from service.store import Document, Entry, Store, document, in_each, streams, to_each

WATCH_SECONDS: Final = 0.5
LATE_SECONDS: Final = 4.0  # its own watchdog and alarm come before that
SIGNAL_SECONDS: Final = 2.0
NOTICE: Final = "sandbox-runner-{}"

log = logging.getLogger("sandbox.runner")


class Pending(NamedTuple):
    """An entry that a neighbour holds, and the document as it is now."""

    entry: Entry
    document: Document | None

    @property
    def token(self) -> str | None:
        claim = self.document.task.claim if self.document else None
        return claim.token if claim else None

    @property
    def is_readable(self) -> bool:
        return self.document is None or self.document.is_readable


class Neighbours:
    def __init__(
        self,
        *,
        store: Store,
        presence: Presence,
        queues: Sequence[str],
        lease_seconds: float,
        notices: Path | None = None,
    ) -> None:
        self._store = store
        self._presence = presence
        self._queues = queues
        self._lease = lease_seconds
        self._notices = notices
        self._told: set[str] = set()
        self._signalled: dict[str, float] = {}
        self._vouched: dict[str, float] = {}

    def register(self, upkeep: Upkeep) -> None:
        upkeep.every(WATCH_SECONDS, self.watch)

    def watch(self) -> None:
        """One runner of the host does it for all."""
        if not self._presence.is_turn("watch", WATCH_SECONDS):
            return
        held_up = list(self._presence.held_up_neighbours())
        self._take_back({neighbour.consumer for neighbour in held_up})
        to_each(held_up, self._look_after)

    def _look_after(self, neighbour: Remains) -> None:
        pending: list[Pending] = []
        both = partial(self._store.roster.vouch, neighbour.consumer), partial(self.vouch, neighbour, pending)
        try:
            to_each(both, lambda vouch: vouch())
        finally:
            self._tell(neighbour, pending)
            self._end_if_useless(neighbour, pending)

    # --- leases ------------------------------------------------------------------------------------

    def vouch(self, neighbour: Remains, pending: list[Pending]) -> None:
        """Renews the leases of what it executes, and adds to `pending` all that it holds."""
        self._vouched[neighbour.consumer] = time.monotonic()
        for some in in_each(range(self._store.partitions), partial(self._vouch_in, neighbour)):
            pending += some

    def _vouch_in(self, neighbour: Remains, partition: int) -> list[Pending]:
        pending = self._pending(neighbour, partition)
        if kept := [one.entry for one in pending if self._keeps(neighbour, one)]:
            self._store.queues.renew(partition, neighbour.consumer, kept)
        return pending

    def vouch_if_due(self, neighbour: Remains) -> None:
        """Before its other entries are taken. Where `watch` has just done it, that is enough."""
        if time.monotonic() - self._vouched.get(neighbour.consumer, 0.0) > 2 * WATCH_SECONDS:
            self.vouch(neighbour, [])

    def _pending(self, neighbour: Remains, partition: int) -> list[Pending]:
        entries = [
            entry
            for stream in streams(partition, self._queues)
            for entry in self._store.queues.pending(stream, partition, neighbour.consumer)
        ]
        return [Pending(entry, document(entry.uid, entry.text)) for entry in self._store.read_again(entries)]

    def _keeps(self, neighbour: Remains, one: Pending) -> bool:
        if one.token is not None and neighbour.has_ended(one.token):
            return time.monotonic() - neighbour.since < self._lease
        return one.token is not None and neighbour.blames(one.token)

    # --- the end -----------------------------------------------------------------------------------

    def _end_if_useless(self, neighbour: Remains, pending: Sequence[Pending]) -> None:
        for token, deadline in neighbour.deadlines.items():
            if time.monotonic() > deadline + LATE_SECONDS:
                self._end(neighbour, token, "is overdue")
            elif _is_lost(token, pending):
                self._end(neighbour, token, "was cancelled")

    def _end(self, neighbour: Remains, token: str, why: str) -> None:
        """By the alarm's signal, which leaves the stacks. A stopped process takes none but KILL."""
        since = self._signalled.setdefault(neighbour.consumer, time.monotonic())
        gently = alarm.SIGNAL and time.monotonic() - since < SIGNAL_SECONDS
        log.warning("the task that holds up %s %s: ending the process", neighbour.consumer, why)
        self._presence.end(neighbour, token, alarm.SIGNAL if gently else signal.SIGKILL)

    # --- what is told ------------------------------------------------------------------------------

    def _tell(self, neighbour: Remains, pending: Sequence[Pending]) -> None:
        """Once. A process that starts slowly on a busy machine executes nothing: no handler is to blame."""
        if neighbour.consumer in self._told or not neighbour.deadlines:
            return
        self._told.add(neighbour.consumer)
        tasks = [one.document.task for one in pending if one.document and one.token and neighbour.blames(one.token)]
        executing = ", ".join(f"{task.uid} of type {task.type}" for task in tasks) or "nothing that is known here"
        if self._leave_notice(neighbour, "held up by a handler"):  # strangers read it: no type
            log.error(
                "%s is held up: no thread of it has got the interpreter for %g s. It executes %s. The process is ended "
                "when that task is cancelled or overdue",
                neighbour.consumer,
                HELD_UP_SECONDS,
                executing,
                extra={"fields": {"uid": tasks[0].uid, "type": tasks[0].type} if tasks else {}},
            )

    def _leave_notice(self, neighbour: Remains, text: str) -> bool:
        """False if another neighbour has told it."""
        if self._notices is None:
            return True
        try:
            self._notices.mkdir(exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._notices.parent) as file:
                file.write(text)
                file.flush()
                os.link(file.name, self._notices / NOTICE.format(neighbour.pid))  # whoever sees it can read all of it
        except FileExistsError:
            return False
        except OSError:
            pass  # a full disk must not keep it from the log
        return True

    def _take_back(self, held_up: set[str]) -> None:
        """The notices of those that have got on, or have ended."""
        self._told &= held_up
        self._vouched = {name: since for name, since in self._vouched.items() if name in held_up}
        self._signalled = {name: since for name, since in self._signalled.items() if name in held_up}
        current = {NOTICE.format(consumer.split(":")[2]) for consumer in held_up}
        for notice in self._notices.glob(NOTICE.format("*")) if self._notices else ():
            if notice.name not in current:
                with suppress(OSError):
                    notice.unlink()


def _is_lost(token: str, pending: Sequence[Pending]) -> bool:
    """Its task is still held, but the document does not name the claim any more."""
    same = [one for one in pending if is_of(token, one.entry.uid) and one.is_readable]
    return bool(same) and all(one.token != token for one in same)
