"""All task types of a process, by name.

`Registry.load` collects the functions that `@task` has marked: from the modules that the settings name, and from the
entry-point group `sandbox.tasks`. A request never names code.
"""

import importlib
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from types import ModuleType
from typing import Final

from service.errors import InvalidTaskType
from service.tasks.declare import TaskType, marked_type

ENTRY_POINTS: Final = "sandbox.tasks"


class Registry:
    def __init__(self, task_types: Iterable[TaskType] = ()) -> None:
        self._types: dict[str, TaskType] = {}
        for task_type in task_types:
            self.add(task_type)

    def add(self, task_type: TaskType) -> None:
        known = self._types.setdefault(task_type.name, task_type)
        if known.handler is not task_type.handler:
            raise InvalidTaskType(f"two handlers serve {task_type.name}: {_where(known)} and {_where(task_type)}")

    def add_module(self, module: ModuleType) -> None:
        for member in vars(module).values():
            if (found := marked_type(member)) is not None:
                self.add(found)

    def get(self, name: str) -> TaskType | None:
        return self._types.get(name)

    def __iter__(self) -> Iterator[TaskType]:
        return iter(sorted(self._types.values()))

    @classmethod
    def load(cls, modules: Iterable[str]) -> "Registry":
        """The types of these modules, and of the installed packages that offer some."""
        registry = cls()
        for name in modules:
            registry.add_module(importlib.import_module(name))
        for entry_point in entry_points(group=ENTRY_POINTS):
            found = entry_point.load()
            if isinstance(found, ModuleType):
                registry.add_module(found)
            elif (task_type := marked_type(found)) is not None:
                registry.add(task_type)
            else:
                raise InvalidTaskType(f"the entry point {entry_point.name} is neither a module nor a task type")
        return registry


def _where(task_type: TaskType) -> str:
    return f"{task_type.handler.__module__}.{task_type.handler.__qualname__}"
