"""The start of circusd, when the checks are made: replace what private_names.py lists, then circus's own main."""

import shutil
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from service.observe import audit
from service.settings import Settings
from service.supervise import private_names
from service.supervise.private_names import CIRCUS
from service.supervise.reload import candidate

LEFT: Final = ("trial", "throttled")  # folders of a circusd that was killed


def become(read: Settings, words: Sequence[str]) -> NoReturn:
    """This process is circusd from here on, and ends as it does."""
    for name in LEFT:
        shutil.rmtree(read.sockets / name, ignore_errors=True)
    (read.sockets / candidate.SERVED).unlink(missing_ok=True)
    private_names.replace(CIRCUS)
    _configure(read)
    from circus import circusd

    sys.argv[:] = ["circusd", *words]
    try:
        circusd.main()
    finally:
        _fail_if_given_up()
    raise SystemExit


def _fail_if_given_up() -> None:
    """circusd's own main ends with 0 after every stop."""
    from service.supervise.watcher import GatedWatcher

    if GatedWatcher.has_given_up:
        raise SystemExit(1)


def _configure(read: Settings) -> None:
    from service.supervise import audited, circusd_log, reload_command  # noqa: F401
    from service.supervise.reload.release import Supervisor
    from service.supervise.start import environment
    from service.supervise.watcher import GatedWatcher

    GatedWatcher.folder = read.sockets
    GatedWatcher.patience_seconds = read.reload_seconds
    audited.write_to(audit.AuditLog(read.logs, "circusd"))
    reload_command.Reload.supervisor = Supervisor(environment.conf_folder())  # last: it looks at what is imported
