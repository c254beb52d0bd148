"""Commands to Redis and their answers."""

from service.store.connection.by_url import connect
from service.store.connection.commands import Command, Script, Subscription, Wire, rows
from service.store.connection.faults import in_each, missing_right, to_each

__all__ = ["Command", "Script", "Subscription", "Wire", "connect", "in_each", "missing_right", "rows", "to_each"]
