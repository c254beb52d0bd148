"""One task: what it is, what became of it, and what can be done to it."""

from collections.abc import Container
from typing import Any, Final
from urllib.parse import quote

from flask import Blueprint, Response, request

from service.errors import InvalidTransition
from service.store import Document, Store
from service.tasks.document import CANCELLED, FAILED, NULL, UNREADABLE, Task
from service.tasks.registry import Registry
from service.tasks.transitions import NOT_AGAIN
from service.web.api.task_calls import TaskCalls
from service.web.masking import may_write
from service.web.page import shown
from service.web.page.frame import Frame, Notice, go, secret_arguments

EVENT: Final = "{event_id}"


class OneTask:
    def __init__(self, frame: Frame, store: Store, registry: Registry, calls: TaskCalls, sentry_url: str) -> None:
        self._frame = frame
        self._logbook = store.logbook
        self._unique_keys = store.unique_keys
        self._registry = registry
        self._calls = calls
        self._sentry_url = sentry_url

    def add_to(self, pages: Blueprint) -> None:
        pages.add_url_rule("/ui/tasks/<uid>", "task", self.show)
        pages.add_url_rule("/ui/tasks/<uid>/retry", "retry", self.retry, methods=["POST"])
        pages.add_url_rule("/ui/tasks/<uid>/cancel", "cancel", self.cancel, methods=["POST"])
        pages.add_url_rule("/ui/tasks/<uid>/purge", "purge", self.purge, methods=["POST"])

    def show(self, uid: str) -> Response:
        found = self._calls.found(uid)
        task, task_type = found.task, self._registry.get(found.task.type)
        return self._frame.page(
            "task.html",
            task=task,
            args=self._value(task.args, secret_arguments(self._registry, task.type)),
            attempts=self._logbook.attempts(uid)[1],
            log=self._logbook.read(uid),
            result=None if task.result == NULL else self._value(task.result, task_type.secret if task_type else ()),
            progress=shown.progress(task),
            sentry=self._sentry(task),
            unreadable=_as_stored(found, may_write(request.environ)) if task.status == UNREADABLE else "",
            holder=self._holder(task),
            may_retry=task.status in (FAILED, CANCELLED) and task.type not in NOT_AGAIN,
            may_create=task_type is not None,
        )

    def _holder(self, task: Task) -> str:
        """The UID of another task that has its unique key."""
        found = self._unique_keys.holder(task)
        return found.task.uid if found is not None and found.task.uid != task.uid else ""

    def _value(self, raw: bytes, secret: Container[str] = ()) -> tuple[str, int]:
        """The value, and how many bytes of it are not shown."""
        whole = len(raw) <= shown.LARGEST_BYTES or "whole" in request.args
        return (shown.exact(raw, secret), 0) if whole else ("", len(raw))

    def _sentry(self, task: Task) -> str:
        event_id = task.error.event_id if task.error else None
        return self._sentry_url.replace(EVENT, quote(event_id, safe="")) if event_id else ""

    def retry(self, uid: str) -> Response:
        return self._done(uid, self._calls.requeued, "The task is queued again.")

    def cancel(self, uid: str) -> Response:
        return self._done(uid, self._calls.cancelled, "The task is cancelled.")

    def purge(self, uid: str) -> Response:
        self._calls.purged(uid)
        return go("/ui/tasks", Notice(f"The task {uid[:8]} is removed."))

    def _done(self, uid: str, do: Any, words: str) -> Response:
        try:
            do(uid)
        except InvalidTransition as error:
            return go(f"/ui/tasks/{uid}", Notice(f"Nothing was changed: {error}.", good=False))
        return go(f"/ui/tasks/{uid}", Notice(words))


def _as_stored(found: Document, all_of_it: bool) -> str:
    """Nobody knows which parts of it are secret."""
    if not all_of_it:
        return "Who may write sees it."
    return found.text[: shown.LARGEST_BYTES].decode("utf-8", "backslashreplace")
