"""The exceptions that more than one package knows. One that only its own package catches is defined there."""


class SandboxError(Exception):
    """The base of the others."""


class SettingsError(SandboxError):
    """A setting cannot be used; the message names the variable, its value and what is allowed."""


class StoreUnavailable(SandboxError):
    """Redis did not do what was asked: it is away, slow, loading, full or read-only."""

    def __init__(self, for_clients: str = "Redis cannot be used", details: str = "") -> None:
        super().__init__(f"{for_clients} ({details})" if details else for_clients)
        self.for_clients = for_clients  # without where Redis is


class WrongRedis(StoreUnavailable):
    """Redis holds what this release, or this installation, may not work on; the message says what to do."""


class StoreRefused(SandboxError):
    """Redis works, but refused a command with an error."""


class AlreadyRunning(SandboxError):
    """Another sandbox holds the state folder."""


class RestartRefused(SandboxError):
    """The circusd that runs does not become another program; the message says why."""


class RestartFailed(SandboxError):
    """circusd has become another program, which cannot read what was left for it."""


class ReleaseBroken(SandboxError):
    """The code on the disk does not load; the message says why."""


class InvalidTask(SandboxError):
    """A client asks for a task that cannot be created; `detail` says what to change."""

    def __init__(self, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field


class InvalidTransition(SandboxError):
    """The task's status does not allow what was asked."""


class KeyHeld(InvalidTransition):
    """Another task has the unique key; `holder` is its UID, and `index` the place of the task that was refused."""

    def __init__(self, detail: str, holder: str = "", index: int | None = None) -> None:
        super().__init__(detail)
        self.holder = holder
        self.index = index


class InvalidTaskType(SandboxError):
    """A function cannot serve as a task type; the message says why."""


class InvalidToken(SandboxError):
    """An API token cannot be made, found or read; the message says why."""


class Reject(SandboxError):
    """Raised by a handler: this task has failed, and trying again would not help."""

    def __init__(self, reason: str = "rejected") -> None:
        super().__init__(reason)


class Retry(SandboxError):
    """Raised by a handler: try again after so many seconds, or after the usual back-off."""

    def __init__(self, reason: str = "", after: float | None = None) -> None:
        super().__init__(reason or "the handler asked for another attempt")
        self.after = after


class Interrupted(BaseException):
    """Raised inside a running handler to end it; a BaseException, so that `except Exception` lets it pass."""


class TimedOut(Interrupted):
    """The attempt took longer than the task's timeout."""


class Cancelled(Interrupted):
    """The task was cancelled while it ran."""


class Stopping(Interrupted):
    """The runner's grace time is over; the task goes back to its queue."""
