"""The modules with task types: where they are looked for, and what is said when one cannot be loaded.

Python looks where it always does: in PYTHONPATH, in its own library, among what is installed. Only then come the
folder of the release and, last, the folder that the service was started in. So nothing that lies in those two can hide
a module of ours, of Python's or of an installed package; what has such a name is told.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from service.errors import SandboxError, SettingsError
from service.supervise.reload import release as releases
from service.tasks.declare import DEFAULT_QUEUE, ON_MANY, marked_type
from service.tasks.registry import Registry

OURS: Final = "service"


def look_also_here() -> None:
    """Appends those two folders to the path. A process of a release works in its folder."""
    sys.path += [folder for folder in _folders() if folder not in sys.path]


def _folders() -> list[str]:
    return list(dict.fromkeys([os.getcwd(), os.environ.get(releases.START_FOLDER) or os.getcwd()]))


def load(modules: Sequence[str], begins: Callable[[str], None] = lambda _: None) -> Registry:
    """Tells `begins` the name of each module before it is loaded. A module that exits cannot be loaded."""
    look_also_here()
    try:
        return Registry.load(_told(modules, begins))
    except (Exception, SystemExit) as error:
        told = [f"{_reason(error)}{_place(error, modules)}", *_file_names(modules, error), *taken_names()]
        raise SettingsError(
            f"SANDBOX_TASKS is {','.join(modules)!r}, which cannot be loaded: {'. '.join(told)}"
        ) from error


def _told(modules: Sequence[str], begins: Callable[[str], None]) -> Iterator[str]:
    for name in modules:
        begins(name)
        yield name


def placed(types: Registry, queues: Sequence[str]) -> Registry:
    """The same types; where no queue is named `default`, the first one takes its place."""
    default = DEFAULT_QUEUE if DEFAULT_QUEUE in queues else queues[0]
    return Registry(each._replace(queue=default) if each.queue == DEFAULT_QUEUE else each for each in types)


def refuse_taken_types(types: Registry) -> None:
    """A team's handler would never be asked: only a call of our own creates such tasks."""
    for task_type in types:
        if task_type.name in ON_MANY:
            code = task_type.handler
            raise SettingsError(
                f"SANDBOX_TASKS has the type {task_type.name} ({code.__module__}.{code.__qualname__}), a name that "
                f"sandbox keeps for an act of its own on many tasks. Give the type another name."
            )


def refuse_unserved(types: Registry, queues: Sequence[str]) -> None:
    """A client that creates such a task could do nothing about it."""
    for task_type in types:
        if task_type.queue not in queues:
            raise SettingsError(
                f"SANDBOX_QUEUES is {','.join(queues)!r}, which lacks {task_type.queue!r}, where tasks of the type "
                f"{task_type.name} would wait. Add it, or leave the type out of SANDBOX_TASKS."
            )


def without_types(modules: Sequence[str]) -> list[str]:
    return [
        f"SANDBOX_TASKS names {name!r}, which has no task types. Those of its submodules count if these are named too, "
        f"or if it imports the types themselves; those in classes and functions never do"
        for name in modules
        if not any(map(marked_type, vars(sys.modules[name]).values()))
    ]


def taken_names() -> list[str]:
    """Of what lies in those folders: each name under which another module has been imported."""
    return [
        f"{path} has a name that is taken: `import {path.stem}` finds {_where(path.stem)}. Rename it if you need it"
        for folder in map(Path, _folders())
        for path in _contents(folder)
        if _is_hidden(path) and not (path.stem == OURS and releases.holds_code(folder))
    ]


def _contents(folder: Path) -> list[Path]:
    """One that has gone, or that this user may not read, holds nothing."""
    with contextlib.suppress(OSError):
        return sorted(folder.iterdir())
    return []


def _is_hidden(path: Path) -> bool:
    if path.suffix != ".py" and not (path.is_dir() and any(path.glob("*.py"))):
        return False
    name = path.stem
    return not name.startswith("__") and name in sys.modules and _where(name) not in (path, path / "__init__.py")


def _where(name: str) -> Path | str:
    file = getattr(sys.modules[name], "__file__", None)
    return Path(file) if file else "a part of Python"


def _reason(error: BaseException) -> str:
    if isinstance(error, SandboxError):
        return str(error)
    text = error.msg if isinstance(error, SyntaxError) else _text(error)
    return f"{type(error).__name__}: {' '.join(text.split())}"


def _text(error: BaseException) -> str:
    """A team's error may fail at that, too."""
    try:
        return str(error)
    except Exception as second:
        return f"its text cannot be made ({type(second).__name__})"


def _file_names(modules: Sequence[str], error: BaseException) -> Iterator[str]:
    """For a module that was named as its file is."""
    for name in modules:
        if isinstance(error, ModuleNotFoundError) and name.endswith(".py"):
            yield f"{name} is the name of a file; its module is {name.removesuffix('.py')}"


def _place(error: BaseException, modules: Sequence[str]) -> str:
    """The file and line of the team's that led to it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}, line {error.lineno})"
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if _is_a_teams(frame, modules):
            return f" ({frame.f_code.co_filename}, line {line})"
    if not isinstance(error, ModuleNotFoundError):
        return ""
    return f"; the last that were looked into are {' and '.join(_folders())}"


def _is_a_teams(frame: FrameType, modules: Sequence[str]) -> bool:
    """Not Python's, not ours, and of no other package that is installed."""
    name, file = str(frame.f_globals.get("__name__")), frame.f_code.co_filename
    package = name.partition(".")[0]
    if package == OURS:
        return name in modules
    return package in {module.partition(".")[0] for module in modules} or not file.startswith(_not_the_teams())


def _not_the_teams() -> tuple[str, ...]:
    import sysconfig  # seldom needed, and large

    return "<", *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib"))
