"""Tasks in Redis. The only package that speaks Redis."""

from service.store.backlog import Backlog
from service.store.scripts import SCRIPTS
from service.store.store import EVERYTHING, GROUP, Change, Document, Entry, Filter, Position, Store

__all__ = ["EVERYTHING", "GROUP", "SCRIPTS", "Backlog", "Change", "Document", "Entry", "Filter", "Position", "Store"]
