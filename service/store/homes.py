"""Where a new task has to lie: its limits count in one slot, and its unique key is on record in one (decision 30)."""

from collections.abc import Callable, Sequence
from itertools import chain

from service.errors import InvalidTask
from service.store.keys import Partitions
from service.store.limits import Limits
from service.store.unique_keys import UniqueKeys
from service.tasks.document import Task


class Homes:
    def __init__(
        self,
        partitions: Partitions,
        limits: Limits,
        unique_keys: UniqueKeys,
        texts: Callable[[Sequence[str]], list[bytes | None]],
    ) -> None:
        self._partitions = partitions
        self._limits = limits
        self._unique_keys = unique_keys
        self._texts = texts

    def of(self, task: Task) -> int | None:
        """The partition; None if any will do. Raises InvalidTask where there is no one partition for all."""
        if self._partitions.count == 1:
            return None
        limited = self._limits.home(task)
        if task.unique is None or limited is None:
            return limited if task.unique is None else self._unique_keys.home(task.type, task.unique)
        if self._limits.counts_by_key(task.type):
            reason = f"a limit of {task.type} counts by a key; on several partitions it is one or the other"
            raise InvalidTask(f"unique: {reason}", field="unique")
        return limited

    def present(self, tasks: Sequence[Task], prefixes: Sequence[str]) -> list[str | None]:
        """The UIDs of those that are there already, of tasks that a key or a parent names: they may lie where they had
        to before a limit was set or changed. None for others, and for who may lie in one place only.
        """
        count = self._partitions.count
        tried = [
            [self._partitions.uid(prefix, partition) for partition in range(count)]
            if count > 1 and task.type in self._limits.types
            else []
            for task, prefix in zip(tasks, prefixes, strict=True)
        ]
        asked = list(chain.from_iterable(tried))
        there = {uid for uid, text in zip(asked, self._texts(asked), strict=True) if text is not None}
        return [next((uid for uid in each if uid in there), None) for each in tried]

    def uid(self, task: Task, prefix: str, *, is_named: bool) -> str:
        """The UID of a new task, or of the one that is there already."""
        [present] = self.present([task], [prefix]) if is_named else [None]
        return present or self._partitions.uid(prefix, self.of(task))
