"""The list of tasks: filters and search in the address, and what is done to those that were chosen."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from flask import Blueprint, Response, request
from werkzeug.datastructures import MultiDict

from service.errors import InvalidTransition
from service.tasks.document import Task
from service.tasks.registry import Registry
from service.web.api import listing
from service.web.api.task_calls import TaskCalls
from service.web.api.uids import UID
from service.web.page import shown
from service.web.page.frame import Frame, Notice, address, go, own_place, secret_arguments
from service.web.page.many_at_once import offered
from service.web.page.typed_filter import typed
from service.web.problem import Problem

MOST_CHOSEN: Final = 100


class Doing(NamedTuple):
    """What can be done to a task, and how one says that it is done."""

    do: Callable[[str], Task]
    done: str


class TaskList:
    def __init__(self, frame: Frame, registry: Registry, queues: Sequence[str], calls: TaskCalls) -> None:
        self._frame = frame
        self._calls = calls
        self._registry = registry
        self._types = [task_type.name for task_type in registry]
        self._queues = queues
        self._deeds = {
            "retry": Doing(calls.requeued, "queued again"),
            "cancel": Doing(calls.cancelled, "cancelled"),
        }

    def add_to(self, pages: Blueprint) -> None:
        pages.add_url_rule("/ui/tasks", "tasks", self.show)
        pages.add_url_rule("/ui/tasks/chosen", "chosen", self.ask_or_act, methods=["POST"])

    def show(self) -> Response:
        asked = typed(request.args)
        if UID.fullmatch(asked.get("q", "")):
            return go(f"/ui/tasks/{asked['q']}")
        try:
            page, following = self._calls.page(asked)
        except Problem as error:
            if error.status != 422:
                raise
            return self._shown(asked, [], None, 422, error.detail)
        return self._shown(asked, page, listing.cursor(following))

    def _shown(
        self, asked: MultiDict[str, str], page: Sequence[Task], cursor: str | None, status: int = 200, wrong: str = ""
    ) -> Response:
        filters = [(name, value) for name, value in asked.items() if name not in ("cursor", "limit")]
        kept = [*filters, *[("limit", value) for value in asked.getlist("limit")]]
        return self._frame.page(
            "tasks.html", status, wrong=wrong, asked=asked, filters=filters, types=self._types, queues=self._queues,
            tasks=[(task, self._summary(task)) for task in page],
            first=address("/ui/tasks", kept),
            next=address("/ui/tasks", [*kept, ("cursor", cursor)]) if cursor else "",
            is_first="cursor" not in asked, offered=offered(asked, filters),
        )  # fmt: skip

    def _summary(self, task: Task) -> str:
        return shown.summary(task.args, secret_arguments(self._registry, task.type))

    def ask_or_act(self) -> Response:
        """First a question that says how many they are, and then the deed."""
        form = request.form
        do, back = form.get("do", ""), own_place(form.get("back", "/ui/tasks"))
        deed = self._deeds.get(do)
        if deed is None:
            raise Problem(422, "do: one of retry, cancel")
        uids = form.getlist("uid")[:MOST_CHOSEN]
        if not uids:
            return go(back, Notice("No task was chosen. Tick some first.", good=False))
        if "sure" not in form:
            return self._frame.page("chosen.html", do=do, uids=uids, back=back)
        done, left = self._done(deed, uids)
        return go(back, _said(deed, done, left))

    def _done(self, deed: Doing, uids: Sequence[str]) -> tuple[list[Task], Counter[str]]:
        done: list[Task] = []
        left: Counter[str] = Counter()
        for uid in uids:
            try:
                done.append(deed.do(uid))
            except (InvalidTransition, Problem) as error:
                left[str(error)] += 1
        return done, left


def _said(deed: Doing, done: Sequence[Any], left: Counter[str]) -> Notice:
    words = [f"{_tasks(len(done))} {deed.done}."]
    words += [f"{_tasks(number)} left as before: {reason}." for reason, number in left.most_common(3)]
    return Notice(" ".join(words), good=not left)


def _tasks(number: int) -> str:
    return f"{number} {'task was' if number == 1 else 'tasks were'}"
