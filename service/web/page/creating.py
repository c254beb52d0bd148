"""The types, and the form that creates a task of one of them, also with the arguments of another task.

What is hidden in another task's arguments stays hidden in the form, and is put back when the form comes back unchanged.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from flask import Blueprint, Response, request

from service.errors import InvalidTask
from service.store import Lot, stuck
from service.tasks.declare import TaskType
from service.tasks.document import PRIORITIES, Task
from service.tasks.registry import Registry
from service.web.api.intake import Intake, Sender
from service.web.api.task_calls import TaskCalls
from service.web.api.uids import UID
from service.web.auth import CALLER
from service.web.page import argument_form, shown
from service.web.page.frame import Frame, Notice, go
from service.web.page.remembered import Remembered
from service.web.page.trends import Trends
from service.web.problem import Problem, not_found
from service.web.request_id import KEY as REQUEST_ID

NONCE: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")
CHOICES: Final = ("queue", "priority")
NUMBERS: Final = ("delay", "max_attempts", "timeout")
AS_JSON: Final = "json"


class Creating:
    def __init__(
        self,
        frame: Frame,
        registry: Registry,
        queues: Sequence[str],
        calls: TaskCalls,
        intake: Intake,
        trends: Trends,
        lots: Callable[[], Iterable[Lot]],
    ) -> None:
        self._frame = frame
        self._registry = registry
        self._described = [task_type.describe() for task_type in registry]
        self._queues = queues
        self._calls = calls
        self._intake = intake
        self._figures = trends.figures
        self._lots = Remembered(lots)

    def add_to(self, pages: Blueprint) -> None:
        pages.add_url_rule("/ui/types", "types", self.list)
        pages.add_url_rule("/ui/types/<name>", "type", self.form)
        pages.add_url_rule("/ui/types/<name>", "create", self.create, methods=["POST"])

    def list(self) -> Response:
        found = stuck(self._lots.get())
        return self._frame.page("types.html", types=self._described, figures=self._figures.get(), stuck=found)

    def form(self, name: str) -> Response:
        task_type = self._type(name)
        model = self._model(name, request.args.get("from"))
        values: dict[str, str] = {}
        if model is not None:
            secret = task_type.secret
            args = shown.hidden(shown.parsed(model.args), secret)
            schema = task_type.describe()["args"]
            values = argument_form.texts(args, schema) | {
                "json": shown.exact(model.args, secret),
                "queue": model.queue,
                "priority": model.priority,
            }
        return self._shown(task_type, values, model.uid if model else "")

    def create(self, name: str) -> Response:
        task_type = self._type(name)
        model = self._model(name, request.form.get("from"))
        try:
            args = _args(task_type, request.form, model)
            if model is not None:
                args = _restored(args, model, task_type)
            task, is_new = self._created(_body(name, args, request.form))
        except (InvalidTask, Problem) as error:
            if isinstance(error, Problem) and error.status != 422:
                raise
            return self._shown(task_type, request.form, model.uid if model else "", error.detail)
        words = "The task is created." if is_new else "This task was there already, and has the unique key."
        return go(f"/ui/tasks/{task.uid}", Notice(words))

    def _created(self, body: bytes) -> tuple[Task, bool]:
        """The same form sent twice creates one task. False if it is the one that has the unique key."""
        environ, nonce = request.environ, request.form.get("nonce", "")
        key = f"{nonce}.{hashlib.sha256(body).hexdigest()[:32]}" if NONCE.fullmatch(nonce) else None
        sender = Sender(environ.get(CALLER), key, environ.get(REQUEST_ID))
        new = self._intake.one(body, sender)
        [task], _ = self._calls.created([new])
        return task, task.uid == new.uid

    def _shown(self, task_type: TaskType, values: Mapping[str, str], model: str, wrong: str = "") -> Response:
        described = task_type.describe()
        return self._frame.page(
            "create.html", 422 if wrong else 200, type=described, wrong=wrong, values=values, model=model,
            fields=argument_form.fields(described["args"], values), queues=self._queues,
            priorities=PRIORITIES,
            nonce=values.get("nonce") or secrets.token_urlsafe(18), as_json=values.get("how") == AS_JSON,
        )  # fmt: skip

    def _type(self, name: str) -> TaskType:
        found = self._registry.get(name)
        if found is None:
            raise not_found("there is no such type here")
        return found

    def _model(self, name: str, uid: str | None) -> Task | None:
        """Of this type only: another one hides other arguments."""
        task = self._calls.found(uid).task if uid and UID.fullmatch(uid) else None
        return task if task is not None and task.type == name else None


def _args(task_type: TaskType, form: Mapping[str, str], model: Task | None) -> dict[str, Any]:
    if form.get("how") == AS_JSON:
        return argument_form.parsed(form.get("json", ""))
    schema = task_type.describe()["args"]
    kept = argument_form.kept(shown.parsed(model.args), schema, form) if model is not None else {}
    return argument_form.read(schema, form) | kept


def _restored(args: dict[str, Any], model: Task, task_type: TaskType) -> dict[str, Any]:
    """With what the form did not show of the model's arguments."""
    before = shown.parsed(model.args)
    seen = shown.hidden(before, task_type.secret)
    whole = {}
    for name, value in args.items():
        try:
            whole[name] = shown.restored(value, before.get(name), seen.get(name))
        except ValueError as error:
            raise InvalidTask(f"{name}: {error}", field=name) from None
    return whole


def _body(name: str, args: dict[str, Any], form: Mapping[str, str]) -> bytes:
    """What a client would send to create it."""
    wanted: dict[str, Any] = {"type": name, "args": args}
    wanted |= {field: form[field] for field in CHOICES if form.get(field)}
    for field in NUMBERS:
        if text := form.get(field, "").strip():
            wanted[field] = _number(field, text)
    return shown.written(wanted).encode()


def _number(field: str, text: str) -> shown.Number:
    try:
        value = shown.parsed(text.encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, shown.Number):
        raise InvalidTask(f"{field}: write a number", field=field)
    return value
