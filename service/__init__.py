"""sandbox: tasks over HTTP, kept in Redis, executed by runners.

All that a module of task types needs is here: `from service import task, Context, Retry, Reject, TimedOut, Cancelled`.
Each name is loaded when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.errors import Cancelled, Reject, Retry, TimedOut
    from service.tasks.context import Context
    from service.tasks.declare import task

__all__ = ["Cancelled", "Context", "Reject", "Retry", "TimedOut", "task"]
__version__ = "0.1.0"

_HOMES = {
    "Cancelled": "service.errors",
    "Context": "service.tasks.context",
    "Reject": "service.errors",
    "Retry": "service.errors",
    "TimedOut": "service.errors",
    "task": "service.tasks.declare",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
