"""Each control command that circusd carries out, and that changes something, is a line of the audit log.

Who sent it is unknown: the control socket, which only the service's own user can open, does not tell.
"""

from collections.abc import Callable, Mapping
from functools import partial
from signal import Signals
from typing import Any, Final

from service.observe.audit import AuditLog

SOCKET: Final = "control.sock"
ONLY_ASK: Final = frozenset(
    {"dstats", "get", "globaloptions", "list", "listen", "listsockets", "numprocesses", "numwatchers", "options",
     "stats", "status"}
)  # fmt: skip

_log: AuditLog | None = None


def write_to(log: AuditLog) -> None:
    global _log
    _log = log


def commands(stock: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    def commands() -> dict[str, Any]:
        found = stock()
        for name in found.keys() - ONLY_ASK:
            found[name].execute = partial(_execute, name, found[name].execute)
        return found

    return commands


def _execute(name: str, execute: Callable[[Any, dict[str, Any]], Any], arbiter: Any, properties: dict[str, Any]) -> Any:
    """A command that is refused raises, and has changed nothing."""
    asked = dict(properties)
    controller = arbiter.ctrl
    origin = controller.signalled if controller.asking is None else SOCKET
    outcome = execute(arbiter, properties)
    tell(name, asked, origin)
    return outcome


def tell(name: str, properties: Mapping[str, Any], origin: str) -> None:
    if _log is not None:
        _log.tell(name, by=None, origin=origin, what=properties)


def signal(stock: Callable[..., None]) -> Callable[..., None]:
    def signal(handler: Any, signum: int, frame: Any = None) -> None:
        handler.controller.signalled = Signals(signum).name
        stock(handler, signum, frame)

    return signal
