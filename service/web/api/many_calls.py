"""POST /tasks/retry and /tasks/cancel: acts on all tasks that a filter admits, by a task of their own."""

import time
from collections.abc import Sequence
from typing import Final

import msgspec
from flask import Blueprint, request

from service.observe.audit import AuditLog
from service.store import Filter, Store, deeds
from service.tasks import moments
from service.tasks.declare import CANCEL_MANY, RETRY_MANY
from service.tasks.document import QUEUED, Task, public
from service.tasks.uid import random_prefix
from service.web import answers, auditing, body
from service.web.answers import Answer
from service.web.api import intake
from service.web.api.listing import Wanted
from service.web.auth import CALLER
from service.web.masking import Masking
from service.web.measured import note
from service.web.problem import Problem
from service.web.request_id import KEY as REQUEST_ID

ATTEMPTS: Final = 20  # each goes on where the one before was cut short
KINDS: Final = {RETRY_MANY: deeds.RETRIED, CANCEL_MANY: deeds.CANCELLED_ONES}  # the statuses that each can change
_decoder = msgspec.json.Decoder(Wanted)
_encode = msgspec.json.Encoder().encode


class ManyCalls:
    def __init__(self, *, store: Store, queues: Sequence[str], masking: Masking, audit: AuditLog | None) -> None:
        """Acts wait in the first of the queues that is not paused, before all else: what they cancel may be long."""
        self._store = store
        self._queues = queues
        self._masking = masking
        self._audit = audit

    def blueprint(self) -> Blueprint:
        calls = Blueprint("many", __name__, url_prefix="/tasks")
        calls.add_url_rule("/retry", view_func=self.retry, methods=["POST"])
        calls.add_url_rule("/cancel", view_func=self.cancel, methods=["POST"])
        return calls

    def retry(self) -> Answer:
        return self._act(RETRY_MANY)

    def cancel(self) -> Answer:
        return self._act(CANCEL_MANY)

    def _act(self, type: str) -> Answer:
        wanted = intake.parsed(_decoder, body.read(request.environ))
        only = wanted.filter()
        if wanted.dry_run:
            number, more = self.matched(type, only)
            return answers.json({"matched": number, "more": more})
        task = self.created(type, only)
        return answers.json(public(task), 202, [("Location", f"/tasks/{task.uid}")])

    def matched(self, type: str, only: Filter) -> tuple[int, bool]:
        """How many tasks such an act would look at now, and whether there are more."""
        searched = self._masking.searched(only)
        return deeds.matched(self._store, searched, KINDS[type], moments.stamp(time.time()))

    def created(self, type: str, only: Filter) -> Task:
        """The task that acts on all that the filter admits."""
        searched = self._masking.searched(only)
        environ, now = request.environ, moments.stamp(time.time())
        task = Task(
            uid=self._store.uid(random_prefix()),
            type=type,
            queue=self._open_queue(),
            status=QUEUED,
            args=msgspec.Raw(_encode({"filter": searched})),
            created_at=now,
            max_attempts=ATTEMPTS,
            request_id=environ.get(REQUEST_ID),
            created_by=environ.get(CALLER),
        )
        self._store.create([task], first=True)
        note(environ, "created", [task])
        self._tell_the_audit(task, only)
        return task

    def _open_queue(self) -> str:
        paused = self._store.pauses.now().queues
        for queue in self._queues:
            if queue not in paused:
                return queue
        raise Problem(409, "all queues are paused, and this is done by a task: resume one of them")

    def _tell_the_audit(self, task: Task, only: Filter) -> None:
        """Each task that the act then changes has a line of its own. No argument's value is in the audit log."""
        if self._audit is not None:
            asked = msgspec.to_builtins(only)
            if only.q is not None and not only.uid:
                asked["q"] = f"{only.q.partition('=')[0]}=…"
            auditing.tell(self._audit, task.type, uid=task.uid, filter=asked)
