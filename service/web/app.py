"""Makes the Flask application from its parts."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from flask import Flask, Request, request
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.routing import MapAdapter

from service.observe.audit import AuditLog
from service.observe.metrics import Metrics
from service.observe.sentry import NO_ERRORS, Errors
from service.store import Store
from service.tasks.registry import Registry
from service.web import answers
from service.web.answers import Answer
from service.web.api import description, git_hooks, health, runner_calls
from service.web.api.git_hooks import GitHooks
from service.web.api.history_calls import HistoryCalls
from service.web.api.intake import Intake
from service.web.api.limit_calls import LimitCalls
from service.web.api.log_calls import LogCalls
from service.web.api.many_calls import ManyCalls
from service.web.api.queue_calls import QueueCalls
from service.web.api.release_calls import ReleaseCalls
from service.web.api.release_desk import ReleaseDesk, Stages
from service.web.api.schedule_calls import ScheduleCalls
from service.web.api.task_calls import TaskCalls
from service.web.api.task_events import Events
from service.web.api.type_calls import TypeCalls
from service.web.api.waiting import Waiting
from service.web.api.workspace_calls import WorkspaceCalls
from service.web.api.workspace_desk import Desk, Premises
from service.web.auth import CALLER, IS_KNOWN, SCOPE, Tokens
from service.web.hosts import READS, Hosts
from service.web.masking import Masking
from service.web.measured import Measured
from service.web.page import site, statics
from service.web.page.pause_forms import PauseForms
from service.web.page.site import Site
from service.web.proxies import Proxies
from service.web.request_id import RequestIds

# The page asks for a token in its own way, and a hook has a secret of its own.
OF_NO_TOKEN: Final = (health.NAME, site.NAME, statics.NAME, git_hooks.NAME)


FOLLOWED: Final = "logs.events"  # a browser cannot send a token to read them
NO_PATH: Final = "/."  # no rule has it


class NoSession(dict[str, Any], SessionMixin):
    pass


class NoSessions(SessionInterface):
    """Spares Flask a look for a session in every request: there are none."""

    null_session_class = NoSession  # type: ignore[assignment]
    _session = NoSession()

    def open_session(self, app: Flask, request: Request) -> SessionMixin:
        return self._session


class Web(Flask):
    session_interface = NoSessions()
    waiting: Waiting
    events: Events
    metrics: Metrics | None
    check_store: Callable[[], None]

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """No path here depends on the host. To work it out is a sixth of what Flask does for a request."""
        if request is None:
            return super().create_url_adapter(request)
        given = request.environ["PATH_INFO"]
        # werkzeug takes //tasks, and tasks, for /tasks; a proxy's rules for paths do not.
        path = request.path if given.startswith("/") and not given.startswith("//") else NO_PATH
        return MapAdapter(self.url_map, "", "/", "", "http", path, request.method)

    def make_default_options_response(self) -> Answer:
        allowed = super().make_default_options_response().headers["Allow"]
        return Answer(status=200, headers=[("Allow", allowed)])


def create_app(
    *,
    store: Store,
    registry: Registry,
    queues: Sequence[str],
    tokens: Tokens | None,
    waiting_clients: int,
    streams: int = 100,
    hosts: Hosts | None = None,
    proxies: Sequence[str] = (),
    throttled: Path | None = None,
    runners: Callable[[], int] | None = None,
    metrics: Metrics | None = None,
    errors: Errors = NO_ERRORS,
    audit: AuditLog | None = None,
    sentry_url: str = "",
    premises: Premises | None = None,
    stages: Stages | None = None,
) -> Web:
    """`waiting_clients` is how many may wait in this process, `streams` how many may read events. Without `hosts`, any
    name and page will do; of `proxies`, their X-Forwarded-For is believed. Without `premises` there are no workspaces,
    without `stages` no releases."""
    app = Web(__name__, static_folder=None)
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    app.metrics = metrics
    app.check_store = store.check
    app.waiting = Waiting(store.texts, store.partition, store.wakeups, limit=waiting_clients)
    store.limits.know(registry)
    intake = Intake(registry=registry, queues=queues, store=store)
    masking = Masking(registry)
    calls = TaskCalls(store=store, intake=intake, waiting=app.waiting, masking=masking, audit=audit)
    app.register_blueprint(calls.blueprint())
    app.events = Events(store, limit=streams)
    logs = LogCalls(store=store, masking=masking, events=app.events)
    app.register_blueprint(logs.blueprint())
    desk = Desk(premises=premises, store=store, intake=intake, calls=calls)
    app.register_blueprint(WorkspaceCalls(desk=desk, logs=logs, masking=masking).blueprint())
    releases = ReleaseDesk(stages=stages, store=store, intake=intake, calls=calls, audit=audit)
    app.register_blueprint(ReleaseCalls(desk=releases, masking=masking).blueprint())
    app.register_blueprint(GitHooks(desk, releases).blueprint())
    many = ManyCalls(store=store, queues=queues, masking=masking, audit=audit)
    app.register_blueprint(many.blueprint())
    app.register_blueprint(HistoryCalls(store, queues).blueprint())
    app.register_blueprint(runner_calls.blueprint(store))
    type_calls = TypeCalls(store=store, registry=registry, audit=audit)
    app.register_blueprint(type_calls.blueprint())
    limit_calls = LimitCalls(store=store, registry=registry, audit=audit)
    app.register_blueprint(limit_calls.blueprint())
    queue_calls = QueueCalls(store=store, queues=queues, audit=audit)
    app.register_blueprint(queue_calls.blueprint())
    schedule_calls = ScheduleCalls(
        store=store, registry=registry, intake=intake, calls=calls, masking=masking, audit=audit
    )
    app.register_blueprint(schedule_calls.blueprint())
    app.register_blueprint(health.blueprint(store, tokens, throttled, runners))
    app.register_blueprint(description.blueprint(registry, queues))
    page = Site(
        store=store, registry=registry, queues=tuple(queues), calls=calls, intake=intake, many=many,
        pauses=PauseForms(queues=queue_calls, types=type_calls), limits=limit_calls, schedules=schedule_calls,
        desk=desk, releases=releases, events=app.events, masking=masking,
        notices=partial(health.notices, throttled), tokens=tokens, audit=audit, errors=errors, sentry_url=sentry_url,
    )  # fmt: skip
    for blueprint in page.blueprints():
        app.register_blueprint(blueprint)
    answers.register(app, errors)
    if hosts is not None:
        app.before_request(_check_of_hosts(hosts))
    if tokens is not None:
        app.before_request(_authentication(tokens, page))
    if metrics is not None and metrics.wanted:
        app.wsgi_app = Measured(app.wsgi_app, metrics)  # type: ignore[method-assign]
    app.wsgi_app = RequestIds(app.wsgi_app, errors.begin)  # type: ignore[method-assign]
    app.wsgi_app = Proxies(app.wsgi_app, proxies)  # type: ignore[method-assign]
    return app


def _check_of_hosts(hosts: Hosts) -> Any:
    def check() -> None:
        if request.blueprint != health.NAME:
            hosts.check(request.environ)

    return check


def _authentication(tokens: Tokens, page: Site) -> Any:
    def authenticate() -> None:
        if request.blueprint in OF_NO_TOKEN or (request.endpoint == FOLLOWED and page.lets_follow()):
            return
        environ = request.environ
        scope = "read" if environ["REQUEST_METHOD"] in READS else "write"
        token = tokens.token(environ.get("HTTP_AUTHORIZATION"), scope)
        environ[CALLER], environ[SCOPE] = token.name, token.scope
        environ[IS_KNOWN] = lambda: tokens.named(token.name) == token

    return authenticate
