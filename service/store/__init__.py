"""Tasks in Redis. The only package that speaks Redis."""

from service.store.backlog import Backlog
from service.store.connection import in_each, to_each
from service.store.documents import Document, document
from service.store.keys import GROUP, by_partition, streams
from service.store.layout import READS, Layout
from service.store.limits import Limit
from service.store.logbook import Logbook, Logged, StoredLine
from service.store.lots import Lot, stuck
from service.store.moves import PORTION_BYTES, Change, Moved
from service.store.pauses import QUEUE, TYPE, Pause
from service.store.queues import Entry
from service.store.roster import AtWork, Executing
from service.store.scripts import SCRIPTS
from service.store.selection import EVERYTHING, Filter, Position
from service.store.sessions import Session, Sessions
from service.store.store import Store
from service.store.tally import Tally
from service.store.wakeups import Wakeups

__all__ = [
    "EVERYTHING",
    "GROUP",
    "PORTION_BYTES",
    "QUEUE",
    "READS",
    "SCRIPTS",
    "TYPE",
    "AtWork",
    "Backlog",
    "Change",
    "Document",
    "Entry",
    "Executing",
    "Filter",
    "Layout",
    "Limit",
    "Logbook",
    "Logged",
    "Lot",
    "Moved",
    "Pause",
    "Position",
    "Session",
    "Sessions",
    "Store",
    "StoredLine",
    "Tally",
    "Wakeups",
    "by_partition",
    "document",
    "in_each",
    "streams",
    "stuck",
    "to_each",
]
