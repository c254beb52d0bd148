"""The scripts (lua/), one for each kind of change."""

from typing import Final

from service.store.connection import Script

CREATE, MOVE, PURGE, FETCH, TAKE, RENEW, DROP = _CHANGES = tuple(
    Script(name) for name in ("create", "move", "purge", "fetch", "take", "renew", "drop")
)
DUE, STALE, LATER, SHELVES, SCAN, COUNT, PLACE, AGED, SWEEP, RETIRE, BACKLOG, LAYOUT, PROBE = _OTHERS = tuple(
    Script(name)
    for name in (
        *("due", "stale", "later", "shelves", "scan", "count", "place", "aged", "sweep", "retire", "backlog"),
        *("layout", "probe"),
    )
)
LOG, ATTEMPTS = _BESIDE = Script("log"), Script("attempts")
HISTORY, GAUGES = _HISTORY = Script("history"), Script("gauges")
PAUSE, RESUME, KNOWN, PARK, UNPARK, LOTS = _ORDER = tuple(
    Script(name) for name in ("pause", "resume", "known", "park", "unpark", "lots")
)
ABANDONED: Final = Script("abandoned")
CANCEL: Final = Script("move", when_full=True)  # what a client wishes when it makes room
LIMIT, LIMITS, SERVE, VACATE = _LIMITS = tuple(Script(name) for name in ("limit", "limits_now", "serve", "vacate"))
RESCHEDULE, TIMETABLE = _SCHEDULES = Script("reschedule"), Script("timetable")
SCRIPTS: Final = (*_CHANGES, *_OTHERS, *_BESIDE, *_HISTORY, *_ORDER, *_LIMITS, *_SCHEDULES, ABANDONED, CANCEL)
