"""Sends the metrics of each request when its answer begins.

It stands around the application, so that every answer is counted. The views note in the environ what they have done.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from service.observe.metrics import Metrics
from service.tasks.document import Task
from service.web.request_id import Wsgi

ABOUT: Final = "sandbox.about"
ALSO: Final = "sandbox.also"
WAITED: Final = "sandbox.waited"


def note(environ: dict[str, Any], event: str, about: Sequence[Task]) -> None:
    """Notes what this request has made happen to these tasks; it may do so to one after the other."""
    known, others = environ.get(ABOUT, ("", ()))
    environ[ABOUT] = event, [*others, *about] if known == event else about


def note_also(environ: dict[str, Any], event: str, about: Sequence[Task]) -> None:
    """Notes what has happened to others on the way."""
    environ.setdefault(ALSO, []).append((event, about))


class Measured:
    """WSGI middleware."""

    def __init__(self, application: Wsgi, metrics: Metrics) -> None:
        self._application = application
        self._metrics = metrics

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        begun = time.perf_counter()

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            event, about = environ.get(ABOUT, ("", ()))
            self._metrics.request(
                _route(environ),
                environ["REQUEST_METHOD"],
                status[:3],
                time.perf_counter() - begun,
                waited=WAITED in environ,
                event=event,
                about=about,
            )
            for others in environ.get(ALSO, ()):
                self._metrics.changed(*others)
            return start_response(status, headers, *more)

        return self._application(environ, start)


def _route(environ: dict[str, Any]) -> str:
    """The route's template, as in /tasks/<uid>; never what a client has typed."""
    request = environ.get("werkzeug.request")
    rule = None if request is None else request.url_rule
    return "unknown" if rule is None else rule.rule
