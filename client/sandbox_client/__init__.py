"""The client of the task service sandbox: `Client` and `AsyncClient`."""

from sandbox_client.async_client import AsyncClient, AsyncTask, AsyncWorkspace
from sandbox_client.calls import NewTask
from sandbox_client.client import Client, Task, Workspace
from sandbox_client.document import Attempt, LogLine, Progress, Readiness, TaskError, TaskType
from sandbox_client.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    MethodNotAllowed,
    NotFound,
    ProblemError,
    RequestTimeout,
    SandboxError,
    ServiceFault,
    TimedOut,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    UnknownName,
    Unreachable,
    UnsupportedMediaType,
    WrongAddress,
)
from sandbox_client.events import Event
from sandbox_client.version import __version__

__all__ = [
    "AsyncClient",
    "AsyncTask",
    "AsyncWorkspace",
    "Attempt",
    "BadRequest",
    "Client",
    "Conflict",
    "Event",
    "Forbidden",
    "Invalid",
    "LogLine",
    "MethodNotAllowed",
    "NewTask",
    "NotFound",
    "ProblemError",
    "Progress",
    "Readiness",
    "RequestTimeout",
    "SandboxError",
    "ServiceFault",
    "Task",
    "TaskError",
    "TaskType",
    "TimedOut",
    "TooLarge",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "UnexpectedAnswer",
    "UnknownName",
    "Unreachable",
    "UnsupportedMediaType",
    "Workspace",
    "WrongAddress",
    "__version__",
]
