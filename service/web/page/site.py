"""The page as a whole: its addresses, and what is checked before each of them."""

from collections.abc import Callable
from typing import Any, Final

from flask import Blueprint, Response, request

from service.observe.audit import AuditLog
from service.observe.sentry import Errors
from service.store import Store
from service.tasks.registry import Registry
from service.web import answers
from service.web.answers import Answer
from service.web.api.health import Notices
from service.web.api.intake import Intake
from service.web.api.limit_calls import LimitCalls
from service.web.api.many_calls import ManyCalls
from service.web.api.release_desk import ReleaseDesk
from service.web.api.schedule_calls import ScheduleCalls
from service.web.api.task_calls import TaskCalls
from service.web.api.task_events import Events
from service.web.api.workspace_desk import Desk
from service.web.auth import CALLER, IS_KNOWN, SCOPE, Tokens
from service.web.body import BODY_LIMIT
from service.web.hosts import READS
from service.web.masking import Masking
from service.web.page.audit_trail import AuditTrail
from service.web.page.creating import Creating
from service.web.page.frame import PLACES, RELEASES, VISITOR, WORKSPACES, Frame, Notice, address, go, safe
from service.web.page.guard import Guard, Visitor, cookie_of, refuse_other_sites
from service.web.page.limit_pages import LimitPages
from service.web.page.many_at_once import ManyAtOnce
from service.web.page.one_task import OneTask
from service.web.page.overview import Overview
from service.web.page.pause_forms import PauseForms
from service.web.page.queue_list import QueueList
from service.web.page.release_list import ReleaseList
from service.web.page.remembered import Remembered
from service.web.page.runner_list import RunnerList
from service.web.page.schedule_pages import SchedulePages
from service.web.page.signing_in import SigningIn
from service.web.page.statics import Statics
from service.web.page.task_list import TaskList
from service.web.page.trends import Trends
from service.web.page.workspace_pages import WorkspacePages
from service.web.problem import Problem, not_found
from service.web.token_file import READ, WRITE

NAME: Final = "page"
FOR_EVERYBODY: Final = (
    "page.root", "page.sign_in_form", "page.sign_in", "page.sign_out", "page.look", "page.open_workspace",
)  # fmt: skip
NOT_DONE: Final = "You are not signed in any more, and nothing was done. Sign in, and send it again."


class Site:
    def __init__(
        self,
        *,
        store: Store,
        registry: Registry,
        queues: tuple[str, ...],
        calls: TaskCalls,
        intake: Intake,
        many: ManyCalls,
        pauses: PauseForms,
        limits: LimitCalls,
        schedules: ScheduleCalls,
        desk: Desk,
        releases: ReleaseDesk,
        events: Events,
        masking: Masking,
        notices: Notices,
        tokens: Tokens | None,
        audit: AuditLog | None,
        errors: Errors,
        sentry_url: str,
    ) -> None:
        self._statics = Statics()
        self._guard = Guard(tokens, store.sessions)
        paused = Remembered(store.pauses.now)
        more = [place for place, part in ((WORKSPACES, desk), (RELEASES, releases)) if part.is_open]
        places = (*PLACES[:-1], *more, PLACES[-1])
        self._frame = Frame(self._statics, asks=self._guard.asks, paused=paused.get, places=places)
        self._errors = errors
        trends = Trends(store)
        self._workspaces = WorkspacePages(
            frame=self._frame, desk=desk, store=store, calls=calls, events=events, masking=masking
        )
        self._parts = (
            SigningIn(self._guard, self._frame, audit),
            Overview(self._frame, store, queues, notices, trends),
            TaskList(self._frame, registry, queues, calls),
            ManyAtOnce(self._frame, many),
            OneTask(self._frame, store, registry, calls, sentry_url),
            Creating(self._frame, registry, queues, calls, intake, trends, store.lots.now),
            QueueList(self._frame, store, queues, trends),
            LimitPages(self._frame, limits),
            RunnerList(self._frame, store),
            pauses,
            SchedulePages(self._frame, schedules),
            self._workspaces,
            ReleaseList(self._frame, releases),
            AuditTrail(self._frame, audit),
        )

    def blueprints(self) -> tuple[Blueprint, Blueprint]:
        pages = Blueprint(NAME, __name__)
        pages.add_url_rule("/", "root", self.root)
        pages.add_url_rule("/ui/", "slash", lambda: go("/ui"))
        for part in self._parts:
            part.add_to(pages)
        pages.add_url_rule("/ui/<path:unknown>", "unknown", self.unknown)
        pages.before_request(self.admit)
        pages.after_request(safe)
        answers.register(pages, self._errors, self._problem)
        return pages, self._statics.blueprint()

    def admit(self) -> Response | None:
        """Refuses who may not come in, or may not do this; sends to the form those who have not signed in."""
        environ, visits = request.environ, self._visits()
        request.max_content_length = request.max_form_memory_size = BODY_LIMIT + 4096
        reads = environ["REQUEST_METHOD"] in READS
        if not reads:
            refuse_other_sites(environ, bool(request.cookies))
        visitor = environ[VISITOR] = visits()
        if request.endpoint in FOR_EVERYBODY:
            return None
        if visitor is None:
            if not reads:
                return go("/ui/sign-in", Notice(NOT_DONE, good=False))
            to = request.full_path.rstrip("?")
            return go(address("/ui/sign-in", [] if to == "/ui" else [("to", to)]))
        environ[CALLER], environ[SCOPE] = visitor.name, WRITE if visitor.may_write else READ
        environ[IS_KNOWN] = lambda: visits() is not None
        if not (reads or visitor.may_write):
            raise Problem(403, "this token may only read")
        return None

    def _visits(self) -> Callable[[], Visitor | None]:
        """Tells, now and later, who has sent this request."""
        secret, owner = request.cookies.get(cookie_of(request.environ)), self._workspaces.owner()
        return lambda: self._guard.visitor(secret) or owner()

    def lets_follow(self) -> bool:
        """May this request read a task's events, because it comes from a page that somebody has opened?"""
        environ = request.environ
        if "HTTP_AUTHORIZATION" in environ or environ.get("HTTP_SEC_FETCH_SITE", "same-origin") != "same-origin":
            return False
        secret = request.cookies.get(cookie_of(environ))
        visitor = self._guard.visitor(secret)
        if visitor is None:
            return False
        environ[CALLER], environ[SCOPE] = visitor.name, READ  # the page shows no secrets
        environ[IS_KNOWN] = lambda: self._guard.visitor(secret) is not None
        return True

    def root(self) -> Response:
        if "text/html" not in request.headers.get("Accept", ""):
            raise Problem(404, answers.DETAILS[404])
        return go("/ui")

    def _problem(self, error: Problem) -> Answer:
        return answers.of_problem(error) if request.path == "/" else self._frame.problem(error)

    def unknown(self, **_: Any) -> Response:
        raise not_found("there is no such page")
