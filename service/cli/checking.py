"""What can be said of settings and task types before anything starts: `sandbox check`."""

import difflib
import os
import sys
from collections.abc import Iterator
from typing import Final

from service.cli import task_modules, wiring
from service.errors import SandboxError, SettingsError
from service.observe import sentry
from service.settings import Settings, texts
from service.supervise.reload import candidate, release
from service.supervise.start import environment, orphans, rehearsal

PREFIXES: Final = ("SANDBOX_", "REDIS_", "STATSD_", "GRAPHITE_", "SENTRY_")
CLIENTS: Final = {
    "SANDBOX_URL": ("http", "unix:"),
    "SANDBOX_TOKEN": ("sbx_",),
}  # of `sandbox task`; how their values begin
SLIP: Final = 0.85  # how like a setting's name another must be, to be meant for it


def check(settings: Settings) -> str:
    """Returns a line that says that all is well. Raises an error if it is not; prints a warning of what looks odd."""
    for warning in _slips(settings):
        print(f"sandbox: {warning}.", file=sys.stderr)
    _check_tokens(settings)
    if settings.sentry_dsn:
        sentry.check(settings.sentry_client)
    types = wiring.registry(settings, begins=rehearsal.mark)
    for warning in (*task_modules.without_types(settings.tasks), *task_modules.taken_names()):
        print(f"sandbox: {warning}.", file=sys.stderr)
    if settings.redis_url:  # the embedded one has not started yet
        wiring.refuse_wrong_redis(wiring.store(settings))
    count = len(list(types))
    return f"{rehearsal.WELL}: {count} {'type' if count == 1 else 'types'}, queues {', '.join(settings.all_queues)}"


def _check_tokens(settings: Settings) -> None:
    if settings.tokens is None:
        if not settings.on_loopback:
            raise SettingsError(
                f"SANDBOX_BIND is {settings.bind!r}; without SANDBOX_TOKENS only loopback (127.0.0.1, ::1, localhost) "
                f"is allowed. Set SANDBOX_TOKENS to a file, and make a token: `sandbox token add NAME --scope write`."
            )
        return
    from service.web import token_file

    try:
        found = token_file.read(settings.tokens)
    except (OSError, ValueError, SandboxError) as error:
        raise SettingsError(f"SANDBOX_TOKENS is {str(settings.tokens)!r}, which cannot be used: {error}.") from error
    if not found:
        raise SettingsError(
            f"SANDBOX_TOKENS is {str(settings.tokens)!r}, which holds no token. "
            f"Make one with `sandbox token add NAME --scope write`."
        )


def _slips(settings: Settings) -> Iterator[str]:
    """A setting that is misspelt would be left out in silence."""
    ours = {*environment.variables(settings), environment.SESSION, candidate.VARIABLE, release.START_FOLDER}
    ours |= {
        orphans.MARK,
        orphans.SUPERVISOR,
        *(name for name in CLIENTS if os.environ.get(name, "").startswith(CLIENTS[name])),
    }
    for name in sorted(set(os.environ) - ours):
        if name.startswith(PREFIXES) and (meant := _meant(name, list(texts(settings)))):
            yield f"{name} is set, but is no setting; {meant} is one"


def _meant(name: str, settings: list[str]) -> str | None:
    like = difflib.get_close_matches(name, settings, 1, SLIP)
    longer = [setting for setting in settings if setting.startswith(name) and name not in PREFIXES]
    return next(iter(like + longer), None)
