"""How acts on many tasks are carried out: gives their handlers (builtin/bulk.py) the store and the audit log."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from time import time
from typing import Any

import msgspec

from service.errors import Reject, SandboxError
from service.observe.audit import AuditLog
from service.observe.metrics import Metrics
from service.store import Filter, Store, deeds
from service.store.deeds import Deed, Done
from service.tasks import moments, transitions
from service.tasks.document import Task


class Acts:
    def __init__(self, store: Store, audit: AuditLog, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._audit = audit

    def retry(self, uid: str, filter: Mapping[str, Any]) -> Iterator[Done]:
        return self._carry_out(uid, filter, deeds.retry, transitions.requeued, "requeued")

    def cancel(self, uid: str, filter: Mapping[str, Any]) -> Iterator[Done]:
        def cancelled(task: Task) -> Task:
            return transitions.cancelled(task, moments.stamp(time()))

        return self._carry_out(uid, filter, deeds.cancel, cancelled, "cancelled")

    def _carry_out(
        self,
        uid: str,
        filter: Mapping[str, Any],
        begin: Callable[[Store, Task, Filter], Deed],
        transition: Callable[[Task], Task],
        did: str,
    ) -> Iterator[Done]:
        """The lines in the audit log are of who has asked for it, and name the act's own task."""
        found = self._store.read(uid)
        if found is None:
            raise Reject(f"the task {uid} is gone")
        task = found.task

        def tell(changed: Sequence[Task]) -> None:
            if changed:
                self._audit.tell_of_tasks(
                    did, changed, by=task.created_by, origin=f"task {uid}", request_id=task.request_id
                )
                self._metrics.changed(did, changed)
                if did == "cancelled":
                    with suppress(SandboxError):  # they are cancelled, though they may be missing in the history
                        self._store.history.cancelled(changed)

        yield from begin(self._store, task, _read(filter)).go_on(transition, tell)


def _read(filter: Mapping[str, Any]) -> Filter:
    try:
        return msgspec.convert(filter, Filter)
    except msgspec.ValidationError as error:
        raise Reject(f"filter: {error}") from error
