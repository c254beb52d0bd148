"""Creates tasks for handlers: checked as POST /tasks checks them, and each once, however often its parent runs.

A child's UID follows from its parent's and from a key. So it lies in a partition of its own, and what another attempt
wants created again is there already. All that was created stays, whatever becomes of the parent.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from service.errors import InvalidTask
from service.observe.metrics import Metrics
from service.store import PORTION_BYTES, Document, Store, by_partition
from service.tasks import moments
from service.tasks.context import Child, Context
from service.tasks.declare import ON_MANY
from service.tasks.document import QUEUED, Task
from service.tasks.registry import Registry
from service.tasks.uid import prefix_for_child

ARGS_LIMIT: Final = 256 * 1024
TASK_BYTES: Final = 1024  # of a command, for a task without its arguments
MOST: Final = 1000


class Children:
    def __init__(self, store: Store, registry: Registry, metrics: Metrics) -> None:
        self._store = store
        self._registry = registry
        self._metrics = metrics

    def create(self, context: Context, children: Sequence[Child]) -> list[str]:
        """Nothing is created if one of them is wrong. Those that want unique keys are created one by one."""
        now = time.time_ns() // 1000
        tasks = [self._task(context, child, now + place) for place, child in enumerate(children)]
        prefixes = [prefix_for_child(context.uid, child.key) for child in children]
        for task, prefix, uid in zip(tasks, prefixes, self._store.homes.present(tasks, prefixes), strict=True):
            task.uid = uid or self._store.uid(prefix, self._store.homes.of(task))
        for together in self._portions([task for task in tasks if task.unique is None]):
            self._create(together)
        return [task.uid if task.unique is None else self._create_unique(task) for task in tasks]

    def _task(self, context: Context, child: Child, created: int) -> Task:
        """`created` in microseconds: one apart, so that the list keeps their order."""
        task_type = None if child.type in ON_MANY else self._registry.get(child.type)
        if task_type is None:
            raise InvalidTask(f"type: there is no {child.type!r:.100} here", field="type")
        if len(child.args) > ARGS_LIMIT:
            raise InvalidTask(f"args: {len(child.args):,} bytes of JSON; {ARGS_LIMIT:,} are allowed", field="args")
        args = task_type.accept(msgspec.Raw(child.args))
        unique = task_type.unique_key(args, None)
        return Task(
            uid="",
            type=task_type.name,
            queue=task_type.queue,
            status=QUEUED,
            args=args,
            created_at=moments.stamp_exactly(created),
            max_attempts=task_type.max_attempts,
            timeout=task_type.timeout,
            request_id=context.request_id,
            created_by=context.created_by,
            priority=task_type.priority,
            unique=unique,
            parent=context.uid,
        )

    def _portions(self, tasks: Sequence[Task]) -> Iterator[list[Task]]:
        """What goes into one command: of one partition, and not too much."""
        for members in by_partition(tasks, lambda task: self._store.partition(task.uid)).values():
            portion: list[Task] = []
            room = PORTION_BYTES
            for task in members:
                room -= TASK_BYTES + len(task.args)
                if portion and (room < 0 or len(portion) == MOST):
                    yield portion
                    portion, room = [], PORTION_BYTES - TASK_BYTES - len(task.args)
                portion.append(task)
            yield portion

    def _create(self, tasks: Sequence[Task]) -> None:
        """Those that are not there yet."""
        while tasks and (present := self._store.create(tasks)):
            for task, found in zip(tasks, present, strict=True):
                _refuse_another_type(task, found)
            tasks = [task for task, found in zip(tasks, present, strict=True) if found is None]
        self._metrics.changed("created", tasks)

    def _create_unique(self, task: Task) -> str:
        made = self._store.create_unique([task])
        self._metrics.changed("created", made.new)
        if made.replaced:
            self._metrics.changed("cancelled", made.replaced)
            self._store.history.cancelled(made.replaced)
        for found in made.present:
            _refuse_another_type(task, found)
        return made.tasks[0].uid


def _refuse_another_type(task: Task, found: Document | None) -> None:
    """A key names one child, whatever its type: another one of that name would be lost without a word."""
    if found is not None and found.is_readable and found.task.type != task.type:
        raise InvalidTask(
            f"key: it names a {found.task.type} already, {task.uid}, and no {task.type} besides: put the type into it",
            field="key",
        )
