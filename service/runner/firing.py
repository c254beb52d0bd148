"""A duty: creates the tasks of schedules whose time has come. Any runner may; of several that try, one does.

Whether any is due tells the look at due tasks (due.py), so nothing is asked where nobody uses schedules. A schedule of
the code is brought into Redis when a runner starts, and again if it has gone.

Only who knows the type can create its task, and a schedule of the code is only for runners in whose code it stands:
during a deploy there are others. They leave it alone, until nobody has created the task in time.
"""

import logging
import time
from typing import Final

from service.errors import InvalidTask, InvalidTransition, KeyHeld, StoreUnavailable
from service.observe.metrics import Metrics
from service.runner.upkeep import Upkeep
from service.store import Document, Store, in_each, to_each
from service.store.layout import OlderAtWork
from service.store.schedules import Found
from service.tasks import moments, schedule, transitions
from service.tasks.declare import TaskType
from service.tasks.document import QUEUED, SCHEDULED, Task
from service.tasks.registry import Registry
from service.tasks.schedule import CODE, Outlook, Schedule

LOOK_SECONDS: Final = 0.25
TELL_SECONDS: Final = 30.0
TROUBLED_SECONDS: Final = 60
SLICE_SECONDS: Final = 0.1

log = logging.getLogger("sandbox.runner")


class Firing:
    def __init__(self, store: Store, *, registry: Registry, metrics: Metrics) -> None:
        self._store = store
        self._types = registry
        self._metrics = metrics
        self._told: set[str] = set()

    def register(self, upkeep: Upkeep) -> None:
        upkeep.every(LOOK_SECONDS, self.fire)
        if any(each.schedule for each in self._types):
            upkeep.every(TELL_SECONDS, self.tell)

    # --- those of the code -----------------------------------------------------------------------------

    def tell(self) -> None:
        """At first all are made what the code says; later only what has gone is brought back: of two releases that
        work side by side, the one that started last decides.
        """
        to_each([each for each in self._types if each.schedule is not None], self._tell)

    def _tell(self, task_type: TaskType) -> None:
        name, plan = task_type.name, task_type.schedule

        def as_in_the_code(before: Schedule | None, now: int) -> Schedule:
            assert plan is not None
            if before is not None and (before.source != CODE or name in self._told):
                return before
            is_paused = before is not None and before.paused
            by = before.changed_by if before is not None else None
            return schedule.put(before, name, plan, paused=is_paused, source=CODE, now=now, by=by)

        found = self._store.schedules.read(name)
        if found is not None and found.schedule is None:
            return  # it cannot be read, and stays as it is
        stored, _ = self._store.schedules.change(name, as_in_the_code)
        self._told.add(name)
        if stored.source != CODE:
            log.warning(
                "the type %s has a schedule in the code, and a client has made one of that name, which stays; "
                "DELETE /schedules/%s makes room",
                name, name, extra={"once": f"schedule {name}"},
            )  # fmt: skip

    # --- what is due -----------------------------------------------------------------------------------

    def fire(self) -> bool:
        """In slices: after an outage of days, each may take a while. Returns whether there may be more."""
        until = time.monotonic() + SLICE_SECONDS
        each_due = ((found, now) for now, due in self._store.schedules.due() for found in due)
        return any(time.monotonic() > until for _ in in_each(each_due, self._try_to_look))

    def _try_to_look(self, due: tuple[Found, int]) -> None:
        """None must be in the way of others. Raises StoreUnavailable, perhaps of a partition that others do without."""
        found, now = due
        try:
            self._look_at(found, now)
        except OlderAtWork as error:
            log.warning("schedule %s: %s", found.name, error, extra={"once": f"schedule {found.name}"})
        except StoreUnavailable:
            raise
        except Exception:
            log.exception("schedule %s cannot be looked at", found.name)
            self._store.schedules.put_off(found, now + TROUBLED_SECONDS * 1_000_000)

    def _look_at(self, found: Found, now: int) -> None:
        seen = found.schedule
        if seen is None:
            self._store.schedules.put_off(found, now + TROUBLED_SECONDS * 1_000_000)
        elif (problem := _without_rule(seen)) is not None:
            self._leave_to_others(found, seen, problem, now)
        elif (task_type := self._types.get(seen.type)) is None or (seen.source == CODE and task_type.schedule is None):
            self._pass_over(found, seen, now)
        else:
            self._turn(found, seen, task_type, now)

    def _pass_over(self, found: Found, seen: Schedule, now: int) -> None:
        if (after := schedule.passed_over(seen, now)) is not None and self._store.schedules.replace(
            found.name, found.text, after, now
        ):
            self._tell_of(seen, missed=after.missed - seen.missed, why="no runner has it in its code any more")

    def _leave_to_others(self, found: Found, seen: Schedule, why: InvalidTask, now: int) -> None:
        """Who may know its time zone. Once it is too late for them as well it is looked at seldom."""
        if schedule.is_too_late(seen, now):
            log.warning("schedule %s: %s", seen.name, why.detail, extra={"once": f"schedule {seen.name}"})
            self._store.schedules.put_off(found, now + TROUBLED_SECONDS * 1_000_000)

    def _turn(self, found: Found, seen: Schedule, task_type: TaskType, now: int) -> None:
        last = self._store.read(seen.last.uid) if seen.last else None
        is_busy = last is not None and last.is_readable and not last.task.finished
        turn = schedule.turn(seen, now, is_busy=is_busy)
        if turn.cancels and seen.last is not None:
            self._cancel(seen.last.uid)
            last = self._store.read(seen.last.uid)
            turn = schedule.turn(seen, now, is_busy=False)
        if turn.after is seen:
            return self._store.schedules.put_off(found, schedule.look_at(seen, now) or now)
        if turn.fires is None:
            is_done = self._store.schedules.replace(found.name, found.text, turn.after, now)
        else:
            is_done = self._fire(found, turn, task_type, last, now)
        if is_done:
            self._tell_of(seen, skipped=turn.skipped, missed=turn.missed, why="nobody was there to run it in time")
        return None

    def _fire(self, found: Found, turn: Outlook, task_type: TaskType, last: Document | None, now: int) -> bool:
        assert turn.fires is not None
        uid = self._store.schedules.uid(found.name, turn.fires)
        try:
            task_type.check(turn.after.args)  # the code may want others by now
            task = _task(turn.after, task_type, uid, turn.fires)
            self._store.prepare([task])
            self._refuse_elsewhere(task)
            is_done = self._store.schedules.fire(found, turn, task, last, now)
        except (KeyHeld, InvalidTask) as error:
            return self._leave_out(found, turn.after, error, now)
        if is_done:
            log.info("schedule %s has created task %s for %s", found.name, task.uid, task.scheduled_for)
            self._metrics.schedule(found.name, "fired", 1)
            self._metrics.changed("created", [task])
        return is_done

    def _refuse_elsewhere(self, task: Task) -> None:
        if self._store.homes.of(task) not in (None, self._store.partition(task.uid)):
            raise InvalidTask("the key of its limit, or its unique key, lies in another partition than the schedule")

    def _leave_out(self, found: Found, after: Schedule, why: Exception, now: int) -> bool:
        """A time for which there can be no task."""
        after.skipped += 1
        if is_done := self._store.schedules.replace(found.name, found.text, after, now):
            log.warning("schedule %s has left out a time: %s", found.name, why)
            self._metrics.schedule(found.name, "skipped", 1)
        return is_done

    def _cancel(self, uid: str) -> None:
        """The task before. It may end by itself at this moment."""
        try:
            cancelled = self._store.change(uid, lambda task: transitions.cancelled(task, moments.stamp(time.time())))
        except InvalidTransition:
            return
        if cancelled is not None:
            self._store.history.cancelled([cancelled.task])
            self._metrics.changed("cancelled", [cancelled.task])

    def _tell_of(self, seen: Schedule, *, missed: int, why: str, skipped: int = 0) -> None:
        if missed:
            log.warning("schedule %s has missed %d times from %s on: %s", seen.name, missed, seen.next_at, why)
            self._metrics.schedule(seen.name, "missed", missed)
        if skipped:
            log.info("schedule %s has left out a time: the task before has not ended", seen.name)
            self._metrics.schedule(seen.name, "skipped", skipped)


def _without_rule(seen: Schedule) -> InvalidTask | None:
    try:
        _ = seen.rule
    except InvalidTask as error:
        return error
    return None


def _task(seen: Schedule, task_type: TaskType, uid: str, at: int) -> Task:
    late = schedule.delay(seen, at)
    return Task(
        uid=uid,
        type=task_type.name,
        queue=seen.queue or task_type.queue,
        status=SCHEDULED if late else QUEUED,
        args=seen.args,
        created_at=moments.stamp(time.time()),
        max_attempts=task_type.max_attempts,
        timeout=task_type.timeout,
        run_at=moments.stamp_exactly(at + late) if late else None,
        priority=task_type.priority,
        schedule=seen.name,
        scheduled_for=moments.stamp_exactly(at),
        unique=task_type.unique_key(seen.args, None),
    )
