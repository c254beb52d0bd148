"""The calls below /schedules: list, read, put, remove, run now, pause and resume."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from flask import Blueprint, request
from msgspec import UNSET, Meta, Raw, UnsetType

from service.observe.audit import AuditLog
from service.store import Store
from service.store.schedules import Found
from service.tasks import schedule as schedules
from service.tasks import timing
from service.tasks.declare import TYPE_NAME
from service.tasks.document import Task, public
from service.tasks.registry import Registry
from service.tasks.schedule import API, CODE, Schedule, Terms
from service.web import answers, auditing, body
from service.web.answers import Answer
from service.web.api import fingerprint
from service.web.api.intake import Intake, NewTask, Sender, parsed
from service.web.api.task_calls import TaskCalls, sender_of
from service.web.auth import CALLER
from service.web.masking import Masking, may_write
from service.web.problem import Problem, not_found, wrong

INTERNAL: Final = ("anchor", "next_at", "revision")
_ARGS: Final = Meta(extra_json_schema={"type": "object", "description": "GET /types has each type's schema."})
_EVERY: Final = Meta(ge=timing.SHORTEST_SECONDS, le=timing.LONGEST_SECONDS, description="in seconds")
_CRON: Final = Meta(max_length=timing.LONGEST_LINE, description="five fields, or @daily and its kin")
_CATCH_UP: Final = Meta(ge=0, le=schedules.LONGEST_CATCH_UP_SECONDS, description="in seconds")
_JITTER: Final = Meta(ge=0, le=schedules.LONGEST_JITTER_SECONDS, description="in seconds")


class NewSchedule(msgspec.Struct, forbid_unknown_fields=True):
    type: str
    args: Annotated[Raw, _ARGS] | UnsetType = UNSET
    queue: str | None = None
    cron: Annotated[str, _CRON] | None = None
    every: Annotated[float, _EVERY] | None = None
    timezone: Annotated[str, Meta(max_length=100)] = "UTC"
    overlap: Literal["skip", "queue", "allow", "cancel"] = "skip"
    catch_up: Annotated[float, _CATCH_UP] = schedules.CATCH_UP_SECONDS
    jitter: Annotated[float, _JITTER] = 0.0
    paused: bool = False


_decoder = msgspec.json.Decoder(NewSchedule)


class ScheduleCalls:
    def __init__(
        self,
        *,
        store: Store,
        registry: Registry,
        intake: Intake,
        calls: TaskCalls,
        masking: Masking,
        audit: AuditLog | None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._intake = intake
        self._calls = calls
        self._masking = masking
        self._audit = audit

    def blueprint(self) -> Blueprint:
        calls = Blueprint("schedules", __name__, url_prefix="/schedules")
        calls.add_url_rule("", view_func=self.list)
        calls.add_url_rule("/<name>", view_func=self.read)
        calls.add_url_rule("/<name>", view_func=self.put, methods=["PUT"])
        calls.add_url_rule("/<name>", view_func=self.delete, methods=["DELETE"])
        calls.add_url_rule("/<name>/run", view_func=self.run, methods=["POST"])
        calls.add_url_rule("/<name>/pause", view_func=self.pause, methods=["POST"])
        calls.add_url_rule("/<name>/resume", view_func=self.resume, methods=["POST"])
        return calls

    def list(self) -> Answer:
        return answers.json({"schedules": [self.described(each) for each in self.all()]})

    def all(self) -> Sequence[Schedule]:
        """Those that can be read."""
        return [found.schedule for found in self._store.schedules.all() if found.schedule is not None]

    def read(self, name: str) -> Answer:
        return self._answer(self.found(name))

    def put(self, name: str) -> Answer:
        if not TYPE_NAME.fullmatch(name):
            raise wrong("the name: letters, digits, '.', '_' and '-', at most 100", field="name")
        new = parsed(_decoder, body.read(request.environ))
        stored, is_new = self._changed(name, self._as_wanted(name, new), "scheduled")
        return self._answer(stored, 201 if is_new else 200)

    def delete(self, name: str) -> Answer:
        removed = self.removed(name)
        return Answer(status=204) if removed is None else self._answer(removed)

    def run(self, name: str) -> Answer:
        task, status = self.started(name)
        return answers.json(public(task), status, [("Location", f"/tasks/{task.uid}")])

    def pause(self, name: str) -> Answer:
        return self._answer(self.paused(name))

    def resume(self, name: str) -> Answer:
        return self._answer(self.resumed(name))

    # --- what the page does, too -----------------------------------------------------------------------

    def found(self, name: str) -> Schedule:
        """Raises a problem if there is none, or none that can be read."""
        found = self._found(name)
        if found.schedule is None:
            raise Problem(409, f"the schedule cannot be read by this release; DELETE /schedules/{name} removes it")
        return found.schedule

    def removed(self, name: str) -> Schedule | None:
        """What it was; None if it could not be read."""
        while True:
            found = self._found(name)
            if found.schedule is not None and self._is_in_the_code(found.schedule):
                raise Problem(
                    409,
                    "the schedule stands in the code, which would bring it back; take it out there, or pause it here",
                )
            if self._store.schedules.remove(found):
                self._tell("unscheduled", name)
                return found.schedule

    def started(self, name: str) -> tuple[Task, int]:
        """A task of this schedule for now, beside its times; and the status that says whether it is new."""
        found, sender = self.found(name), sender_of(request.environ)
        task = self._intake.made(_new_task(found.type, found.queue, found.args), sender)
        task.schedule = name
        if sender.key is not None:
            task.request = fingerprint.of({"schedule": name})
        [created], status = self._calls.created([task])
        return created, status

    def paused(self, name: str) -> Schedule:
        return self._changed(name, _of(schedules.paused), "paused")[0]

    def resumed(self, name: str) -> Schedule:
        return self._changed(name, _of(schedules.resumed), "resumed")[0]

    def described(self, found: Schedule) -> dict[str, Any]:
        """As clients see it, without secrets."""
        is_orphan = found.source == CODE and not self._is_in_the_code(found)
        words, times = schedules.told(found)
        fields = {name: value for name, value in msgspec.structs.asdict(found).items() if name not in INTERNAL}
        return fields | {
            "args": self._masking.arguments(found.type, found.args),
            "queue": self._queue(found),
            "last": found.last and msgspec.structs.asdict(found.last),
            "words": words,
            "next": times,
            "orphan": is_orphan,
        }

    # --- inside ------------------------------------------------------------------------------------------

    def _answer(self, found: Schedule, status: int = 200) -> Answer:
        """With secrets for those who may write."""
        shown = self.described(found)
        if may_write(request.environ):
            shown["args"] = found.args
        return answers.json(shown, status)

    def _as_wanted(self, name: str, new: NewSchedule) -> Callable[[Schedule | None, int], Schedule]:
        args = self._intake.made(_new_task(new.type, new.queue, new.args), Sender()).args
        values = {field: getattr(new, field) for field in Terms.__struct_fields__}
        plan = Terms(**(values | {"args": args}))
        schedules.check(plan)

        def wanted(before: Schedule | None, now: int) -> Schedule:
            if self._is_taken(name, before):
                raise Problem(409, "a schedule of that name stands in the code; take another name, or change it there")
            by = request.environ.get(CALLER)
            return schedules.put(before, name, plan, paused=new.paused, source=API, now=now, by=by)

        return wanted

    def _changed(
        self, name: str, transition: Callable[[Schedule | None, int], Schedule], did: str
    ) -> tuple[Schedule, bool]:
        stored, is_new = self._store.schedules.change(name, transition)
        self._tell(did, name)
        return stored, is_new

    def _found(self, name: str) -> Found:
        found = self._store.schedules.read(name)
        if found is None:
            raise not_found("there is no schedule of that name; GET /schedules lists what there is")
        return found

    def _is_taken(self, name: str, before: Schedule | None) -> bool:
        """By the code, also while no runner has brought its schedule. What a client had first is the client's."""
        return self._stands_in_the_code(name) and (before is None or before.source == CODE)

    def _is_in_the_code(self, found: Schedule) -> bool:
        return found.source == CODE and self._stands_in_the_code(found.name)

    def _stands_in_the_code(self, name: str) -> bool:
        task_type = self._registry.get(name)
        return task_type is not None and task_type.schedule is not None

    def _queue(self, found: Schedule) -> str | None:
        task_type = self._registry.get(found.type)
        return found.queue or (task_type.queue if task_type else None)

    def _tell(self, did: str, name: str) -> None:
        auditing.tell(self._audit, did, schedule=name)


def _new_task(type: str, queue: str | None, args: Raw | UnsetType) -> NewTask:
    return NewTask(type=type, args=args, queue=UNSET if queue is None else queue)


def _of(change: Callable[..., Schedule]) -> Callable[[Schedule | None, int], Schedule]:
    def changed(before: Schedule | None, now: int) -> Schedule:
        if before is None:
            raise not_found("there is no schedule of that name; GET /schedules lists what there is")
        return change(before, now=now, by=request.environ.get(CALLER))

    return changed
