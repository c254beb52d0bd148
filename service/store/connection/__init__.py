"""Commands to Redis and their answers."""

from service.store.connection.by_url import connect
from service.store.connection.commands import Argument, Command, Script, Subscription, Wire, rows
from service.store.connection.faults import Unreachable, missing_right, unavailable

__all__ = [
    "Argument",
    "Command",
    "Script",
    "Subscription",
    "Unreachable",
    "Wire",
    "connect",
    "missing_right",
    "rows",
    "unavailable",
]
