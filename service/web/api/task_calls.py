"""The calls that create, read, list, retry and cancel tasks."""

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from flask import Blueprint, request
from werkzeug.datastructures import MultiDict

from service.errors import KeyHeld, SandboxError
from service.observe.audit import AuditLog
from service.store import Document, Position, Store
from service.tasks import moments, transitions
from service.tasks.document import UNREADABLE, Task, public
from service.web import answers, body
from service.web.answers import Answer
from service.web.api import listing
from service.web.api.gathering import Gathering
from service.web.api.intake import Intake, Sender
from service.web.api.uids import checked, missing
from service.web.api.waiting import Waiting, preferred_seconds
from service.web.auth import CALLER
from service.web.masking import Masking
from service.web.measured import WAITED, note, note_also
from service.web.problem import Problem, wrong
from service.web.request_id import KEY as REQUEST_ID

IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


class TaskCalls:
    def __init__(
        self, *, store: Store, intake: Intake, waiting: Waiting, masking: Masking, audit: AuditLog | None
    ) -> None:
        self._store = store
        self._gathering = Gathering(store)
        self._intake = intake
        self._waiting = waiting
        self._masking = masking
        self._audit = audit

    def blueprint(self) -> Blueprint:
        calls = Blueprint("tasks", __name__, url_prefix="/tasks")
        calls.add_url_rule("", view_func=self.create, methods=["POST"])
        calls.add_url_rule("", view_func=self.list)
        calls.add_url_rule("/batch", view_func=self.create_batch, methods=["POST"])
        calls.add_url_rule("/<uid>", view_func=self.read)
        calls.add_url_rule("/<uid>", view_func=self.cancel, methods=["DELETE"])
        calls.add_url_rule("/<uid>/retry", view_func=self.retry, methods=["POST"])
        return calls

    def create(self) -> Answer:
        environ = request.environ
        sender = sender_of(environ)
        [task], status = self.created([self._intake.one(body.read(environ), sender)])
        return answers.json(public(task), status, [("Location", f"/tasks/{task.uid}")])

    def create_batch(self) -> Answer:
        environ = request.environ
        sender = sender_of(environ)
        batch, status = self.created(self._intake.many(body.read(environ), sender))
        return answers.json({"tasks": [public(task) for task in batch]}, status)

    def created(self, new: Sequence[Task]) -> tuple[Sequence[Task], int]:
        """The tasks as they are now, and the status that says whether they are new."""
        if any(task.unique is not None for task in new):
            return self._created_unique(new)
        self._store.prepare(new)
        present = self._gathering.create(new)
        if not present or new[0].request is None or _of_this_request(new, present):  # nobody else knows a random UID
            self._tell("created", new)
            return new, 201
        known = _same(new, present)
        self._tell_the_audit("repeated", known)
        return known, 200

    def list(self) -> Answer:
        query = request.args
        if "task_id" in query:
            return self._read_by_query(query)
        page, following = self.page(query)
        return answers.json({"tasks": [self._masking.listed(task) for task in page], "next": listing.cursor(following)})

    def page(self, query: MultiDict[str, str]) -> tuple[Sequence[Task], Position | None]:
        """Of the list: what it is asked for, with its secrets, and where the next page begins."""
        limit, after, only = listing.query(query)
        page, following = self._store.index.page(limit=limit, after=after, only=self._masking.searched(only))
        self._store.limits.tell(page, self._store.partition)
        return page, following

    def _read_by_query(self, query: Any) -> Answer:
        listing.check_names(query, {"task_id"})
        return self.read(query["task_id"])

    def read(self, uid: str) -> Answer:
        found = self.found(uid)
        seconds = preferred_seconds(request.environ.get("HTTP_PREFER"))
        if seconds is None:
            return answers.json(self._masking.document(found.task, request.environ))
        request.environ[WAITED] = True
        waited = self._waiting.wait(uid, found, seconds)
        if waited is not None and not waited.is_readable:
            waited = self._store.read(uid)  # with what its shelf says of it
        if waited is None:
            raise missing(uid)
        self._store.limits.tell([waited.task], self._store.partition)
        shown = self._masking.document(waited.task, request.environ)
        return answers.json(shown, headers=[("Preference-Applied", "wait")])

    def retry(self, uid: str) -> Answer:
        return answers.json(public(self.requeued(uid)))

    def requeued(self, uid: str) -> Task:
        return self._changed(uid, transitions.requeued, "requeued")

    def cancel(self, uid: str) -> Answer:
        listing.check_names(request.args, {"purge"})
        if "purge" in request.args:
            if request.args["purge"]:
                raise wrong("purge: it takes no value", field="purge")
            return answers.json(public(self.purged(uid)))
        return answers.json(public(self.cancelled(uid)))

    def cancelled(self, uid: str) -> Task:
        now = moments.stamp(time.time())
        task = self._changed(uid, lambda task: transitions.cancelled(task, now), "cancelled")
        with suppress(SandboxError):  # the task is cancelled, though it may be missing in the history
            self._store.history.cancelled([task])
        return task

    def _changed(self, uid: str, transition: Callable[[Task], Task], did: str) -> Task:
        changed = self._store.change(checked(uid), transition)
        if changed is None:
            raise missing(uid)
        self._tell(did, [changed.task])
        return changed.task

    def purged(self, uid: str) -> Task:
        purged = self._store.purge(checked(uid))
        if purged is None:
            raise missing(uid)
        self._tell("purged", [purged.task])
        return purged.task

    def _created_unique(self, new: Sequence[Task]) -> tuple[Sequence[Task], int]:
        """Where a task has the key already, that one stands in its place."""
        try:
            made = self._store.create_unique(new)
        except KeyHeld as error:
            note_also(request.environ, "held", [new[error.index or 0]])
            raise
        if made.present and new[0].request is not None and not _of_this_request(new, made.present):
            known = _same(new, self._with_holders(new, made.present))
            self._tell_the_audit("repeated", known)
            return known, 200
        answered = {task.uid for task in made.tasks}
        note_also(request.environ, "held", [task for task in new if task.uid not in answered])
        stored = new if made.present else made.new
        self._tell("created", stored)
        if made.replaced:
            note_also(request.environ, "cancelled", made.replaced)
            self._tell_the_audit("replaced", made.replaced)
            with suppress(SandboxError):
                self._store.history.cancelled(made.replaced)
        return made.tasks, 201 if stored else 200

    def _with_holders(self, new: Sequence[Task], present: Sequence[Document | None]) -> Sequence[Document | None]:
        """Of a repeated request: what was not created then, because another one had its key, is that one now."""
        return [found or self._store.unique_keys.holder(task) for task, found in zip(new, present, strict=True)]

    def _tell(self, did: str, tasks: Sequence[Task]) -> None:
        """The metrics and the audit log."""
        note(request.environ, did, tasks)
        self._tell_the_audit(did, tasks)

    def _tell_the_audit(self, did: str, tasks: Sequence[Task]) -> None:
        environ = request.environ
        if self._audit is not None:
            caller, origin, request_id = environ.get(CALLER), environ.get("REMOTE_ADDR", ""), environ.get(REQUEST_ID)
            self._audit.tell_of_tasks(did, tasks, by=caller, origin=origin, request_id=request_id)

    def found(self, uid: str) -> Document:
        """Raises a problem if there is no such task."""
        found = self._store.read(checked(uid))
        if found is None:
            raise missing(uid)
        self._store.limits.tell([found.task], self._store.partition)
        return found


def _of_this_request(new: Sequence[Task], present: Sequence[Document | None]) -> bool:
    """The store has sent its command twice, because the first answer was lost."""
    return all(found and found.task.created_at == task.created_at for task, found in zip(new, present, strict=True))


def _same(new: Sequence[Task], present: Sequence[Document | None]) -> list[Task]:
    """The tasks that this key has created before; a problem if the key came with another request then."""
    known = [document.task for document in present if document]
    if any(task.status == UNREADABLE for task in known):
        raise Problem(409, "what this key has created cannot be read any more; send it with a new Idempotency-Key")
    asked, own = new[0].request, {task.uid for task in new}
    if any(task.request != asked for task in known if task.uid in own):
        raise wrong("Idempotency-Key: it was used for another request; take a new one", field="Idempotency-Key")
    if len(known) < len(present):
        raise Problem(
            409, "some of this batch's tasks have finished and expired; send the others with a new Idempotency-Key"
        )
    return known


def sender_of(environ: dict[str, Any]) -> Sender:
    key = environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
        raise Problem(400, "Idempotency-Key: 1 to 255 visible ASCII characters", field="Idempotency-Key")
    return Sender(environ.get(CALLER), key, environ.get(REQUEST_ID))
