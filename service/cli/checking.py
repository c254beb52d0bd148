"""What can be said of settings and task types before anything starts: `sandbox check`."""

import sys

from service.cli import wiring
from service.errors import SandboxError, SettingsError
from service.observe import sentry
from service.settings import Settings
from service.tasks.registry import Registry


def check(settings: Settings) -> str:
    """Returns that all is well; raises what is wrong, and prints what is odd."""
    _check_tokens(settings)
    if settings.sentry_dsn:
        sentry.check(settings.sentry_client)
    types = wiring.registry(settings)
    _warn_of_queues(settings, types)
    if settings.redis_url:  # the embedded one has not started yet
        wiring.refuse_wrong_redis(wiring.store(settings))
    return f"all is well: {len(list(types))} types, queues {', '.join(settings.queues)}"


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


def _warn_of_queues(settings: Settings, types: Registry) -> None:
    used = {task_type.queue for task_type in types}
    for queue in sorted(used.difference(settings.queues)):
        print(f"sandbox: SANDBOX_QUEUES does not name {queue!r}, where types have their tasks wait.", file=sys.stderr)
