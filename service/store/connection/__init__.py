"""Commands to Redis and their answers."""

from service.store.connection.by_url import connect
from service.store.connection.commands import Command, Script, Subscription, Wire, rows

__all__ = ["Command", "Script", "Subscription", "Wire", "connect", "rows"]
