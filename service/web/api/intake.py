"""From a request's body to new tasks. The body is checked as a whole; a refusal names the field that is wrong."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from service.errors import InvalidTask
from service.store import Store
from service.tasks import moments, untyped
from service.tasks.declare import TaskType
from service.tasks.document import NO_ARGS, QUEUED, SCHEDULED, Task
from service.tasks.registry import Registry
from service.tasks.uid import prefix_for, random_prefix
from service.tasks.unique import KEEP_LAST, Rule
from service.web.api import body_faults, fingerprint
from service.web.problem import Problem, wrong

BATCH_LIMIT: Final = 1000
LATEST_SECONDS: Final = 10 * 366 * 86400
LONGEST_TIMEOUT_SECONDS: Final = 7 * 86400
MOST_ATTEMPTS: Final = 1000

Found = TypeVar("Found")


class Sender(NamedTuple):
    """Who sends a request, and what it is called."""

    caller: str | None = None  # the name of its token
    key: str | None = None  # its Idempotency-Key
    request_id: str | None = None


def _described(**schema: str) -> Meta:
    """For /openapi.json, which is made from these fields."""
    return Meta(extra_json_schema=schema)


_ARGS: Final = _described(type="object", description="GET /types has each type's schema.")


class NewTask(msgspec.Struct, forbid_unknown_fields=True):
    type: str
    args: Annotated[Raw, _ARGS] | UnsetType = UNSET
    queue: str | UnsetType = UNSET
    run_at: Annotated[datetime, Meta(tz=True)] | UnsetType = UNSET
    delay: Annotated[float, Meta(ge=0, le=LATEST_SECONDS, description="in seconds")] | UnsetType = UNSET
    max_attempts: Annotated[int, Meta(ge=1, le=MOST_ATTEMPTS)] | UnsetType = UNSET
    timeout: Annotated[float, Meta(gt=0, le=LONGEST_TIMEOUT_SECONDS, description="in seconds")] | UnsetType = UNSET
    priority: Literal["high", "normal", "low"] | UnsetType = UNSET
    unique: Rule | UnsetType = UNSET


_one = msgspec.json.Decoder(NewTask)
_many = msgspec.json.Decoder(Annotated[list[NewTask], Meta(min_length=1, max_length=BATCH_LIMIT)])


class Intake:
    def __init__(self, *, registry: Registry, queues: Sequence[str], store: Store) -> None:
        self._registry = registry
        self._queues = frozenset(queues)
        self._store = store

    def one(self, body: bytes, sender: Sender) -> Task:
        task = self.made(parsed(_one, body), sender)
        if sender.key is not None:
            task.request = fingerprint.of(parsed(untyped.decoder, body))
        return task

    def made(self, new: NewTask, sender: Sender) -> Task:
        task, homes = self._task(new, time.time_ns() // 1000, sender), self._store.homes
        task.uid = homes.uid(task, _prefix(sender), is_named=sender.key is not None)
        return task

    def uid(self, sender: Sender) -> str:
        """Of the one task that this sender creates with this key."""
        return self._store.uid(_prefix(sender))

    def many(self, body: bytes, sender: Sender) -> list[Task]:
        batch = parsed(_many, body)
        now = time.time_ns() // 1000
        made: list[Task] = []
        for index, new in enumerate(batch):
            try:
                # A microsecond apart: the list keeps the batch's order.
                made.append(self._task(new, now + index, sender))
            except InvalidTask as error:
                raise wrong(f"tasks[{index}].{error.detail}", field=error.field, index=index) from error
        self._place(made, sender)
        if sender.key is not None:
            request = fingerprint.of(parsed(untyped.decoder, body))
            for task in made:
                task.request = request
        return made

    def _place(self, batch: Sequence[Task], sender: Sender) -> None:
        """All in the partition of the first one, where a resend of the batch finds them again; or in that of their
        limits and unique keys, which have to agree.
        """
        homes = self._store.homes
        home, locks = None, set()
        for index, task in enumerate(batch):
            if task.unique is not None:
                lock = (task.type, task.unique.key)
                if lock in locks:
                    raise _not_in_a_batch(index, "its unique key is that of another task of this batch", "unique")
                locks.add(lock)
            chosen = homes.of(task)
            if chosen is not None and home not in (None, chosen):
                reason = "the key of its limit, or its unique key, lies in another partition than one before it"
                raise _not_in_a_batch(index, reason, "type" if task.unique is None else "unique")
            home = home if chosen is None else chosen
        prefixes = [_prefix(sender, index) for index in range(len(batch))]
        present = [] if sender.key is None else [uid for uid in homes.present(batch, prefixes) if uid]
        home = self._store.partition(present[0]) if present else home
        for task, prefix in zip(batch, prefixes, strict=True):
            task.uid = self._store.uid(prefix, home)
            home = self._store.partition(task.uid)

    def _task(self, new: NewTask, created: int, sender: Sender) -> Task:
        """`created` in microseconds. It has no UID yet."""
        task_type = self._registry.get(new.type)
        if task_type is None:
            raise InvalidTask(f"type: there is no {_shown(new.type)}; GET /types lists what there is", field="type")
        queue = task_type.queue if new.queue is UNSET else new.queue
        if queue not in self._queues:
            served = ", ".join(sorted(self._queues))
            raise InvalidTask(f"queue: {_shown(queue)} is not served here; these are: {served}", field="queue")
        due = _due(new, created)
        args = _checked(new.args, task_type)
        unique = task_type.unique_key(args, None if new.unique is UNSET else new.unique)
        if unique is not None and unique.on_conflict == KEEP_LAST and due:
            raise InvalidTask("unique: keep_last waits for a task, not for a time; take replace", field="unique")
        return Task(
            uid="",
            type=task_type.name,
            queue=queue,
            status=SCHEDULED if due else QUEUED,
            args=args,
            created_at=moments.stamp_exactly(created),
            max_attempts=task_type.max_attempts if new.max_attempts is UNSET else new.max_attempts,
            timeout=task_type.timeout if new.timeout is UNSET else new.timeout,
            run_at=moments.stamp_exactly(due) if due else None,
            request_id=sender.request_id,
            created_by=sender.caller,
            priority=task_type.priority if new.priority is UNSET else new.priority,
            unique=unique,
        )


def _not_in_a_batch(index: int, reason: str, field: str) -> Problem:
    return wrong(f"tasks[{index}].{field}: {reason}: send it by itself", field=field, index=index)


def _prefix(sender: Sender, index: int = 0) -> str:
    if sender.key is None:
        return random_prefix()
    return prefix_for(sender.caller or "", sender.key, index)


def _checked(args: Raw | UnsetType, task_type: TaskType) -> Raw:
    if args is UNSET:
        task_type.check(NO_ARGS)
        return NO_ARGS
    try:
        return task_type.accept(args)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_json(error) from error


def _due(new: NewTask, now: int) -> int | None:
    """When it shall run, in microseconds; None for at once."""
    if new.delay is not UNSET:
        if new.run_at is not UNSET:
            raise InvalidTask("delay: give run_at or delay, not both", field="delay")
        return now + int(new.delay * 1_000_000) if new.delay else None
    if new.run_at is UNSET:
        return None
    due = (new.run_at - EPOCH) // MICROSECOND
    if due > now + LATEST_SECONDS * 1_000_000:
        raise InvalidTask("run_at: at most ten years from now", field="run_at")
    return due if due > now else None


EPOCH: Final = datetime.fromtimestamp(0, UTC)
MICROSECOND: Final = datetime.resolution


def _shown(name: str) -> str:
    return repr(name if len(name) <= 100 else name[:100] + "…")


def parsed(decoder: "msgspec.json.Decoder[Found]", body: bytes) -> Found:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise body_faults.problem(error, decoder.type) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_json(error) from error
    except RecursionError as error:
        raise Problem(400, "the body is nested too deeply") from error


def _not_json(error: Exception) -> Problem:
    return Problem(400, f"the body is not JSON: {error}")
