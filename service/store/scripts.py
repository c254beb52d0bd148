"""The scripts (lua/), one for each kind of change."""

from service.store.connection import Script

CREATE, MOVE, FETCH, TAKE, RENEW, DROP, DUE, STALE, SHELVES, SWEEP, RETIRE, BACKLOG, LAYOUT, PROBE = SCRIPTS = tuple(
    Script(name)
    for name in (
        *("create", "move", "fetch", "take", "renew", "drop"),
        *("due", "stale", "shelves", "sweep", "retire", "backlog", "layout", "probe"),
    )
)
