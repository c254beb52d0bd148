"""The workspaces: a form that makes one of an email, their list, and one of them with its log and what can be done.

Who signs in sees all. Who follows a link of their own gets a cookie for the addresses of that one workspace, and sees
nothing else.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
from flask import Blueprint, Response, request

from service.errors import InvalidTask, InvalidTransition
from service.store import Logged, Store
from service.web.api import body_faults, disk
from service.web.api.own_links import OwnLinks, place
from service.web.api.task_calls import TaskCalls
from service.web.api.task_events import Events
from service.web.api.uids import UID, checked, missing
from service.web.api.workspace_calls import BRANCHES, Granting, NewWorkspace, Rebuilding
from service.web.api.workspace_desk import Desk, SeenWorkspace
from service.web.masking import Masking
from service.web.page import shown
from service.web.page.frame import Frame, Notice, go
from service.web.page.guard import Visitor, is_encrypted
from service.web.problem import Problem
from service.workspaces.record import ASLEEP, DELETED, FAILED, READY, STOPPED, UnreadableRecord, Workspace

OF_ONE: Final = ("page.workspace", "page.workspace_deed", "page.workspace_events")  # open to who has a link of his own
COOKIE: Final = "sandbox_workspace"
COOKIE_SECONDS: Final = 30 * 86400
NOTHING_LOGGED: Final = Logged([], 0, 0)
RUNS: Final = (("restart", "Restart"), ("stop", "Stop"), ("extend", "Keep it awake"))
RESTS: Final = (("start", "Start"),)
RESUME: Final = ("resume", "Resume")
UPDATE: Final = ("update", "Update")
BUILT: Final = (UPDATE, ("test", "Run the tests"))
OFFERED: Final = {READY: RUNS + BUILT, STOPPED: RESTS + BUILT, ASLEEP: RESTS + BUILT}
DONE: Final = {"extend": "It stays awake.", "cancel": "The action is cancelled."}
Asked = TypeVar("Asked", bound=msgspec.Struct)


class WorkspacePages:
    def __init__(
        self, *, frame: Frame, desk: Desk, store: Store, calls: TaskCalls, events: Events, masking: Masking
    ) -> None:
        self._frame = frame
        self._desk = desk
        self._logbook = store.logbook
        self._calls = calls
        self._events = events
        self._masking = masking
        self._deeds: dict[str, Callable[[str, Mapping[str, str]], SeenWorkspace]] = {
            **{name: self._simple(name) for name in ("start", "stop", "restart", "update", "test")},
            "rebuild": lambda slug, form: desk.rebuild(slug, _asked(Rebuilding, form, "python").python),
            "access": lambda slug, form: desk.act(slug, "access", login=_asked(Granting, form, "login").login),
            "delete": lambda slug, form: desk.delete(
                slug, force="force" in form, branch=form.get("branch", BRANCHES[0])
            ),
            "resume": lambda slug, form: desk.resume(slug, take_over="take_over" in form),
            "extend": lambda slug, _: desk.extend(slug),
            "cancel": self._cancelled,
        }

    def add_to(self, pages: Blueprint) -> None:
        deeds = ", ".join(self._deeds)
        pages.add_url_rule("/ui/workspaces", "workspaces", self.list)
        pages.add_url_rule("/ui/workspaces", "create_workspace", self.create, methods=["POST"])
        pages.add_url_rule("/ui/workspaces/<slug>", "workspace", self.show)
        pages.add_url_rule(f"/ui/workspaces/<slug>/<any({deeds}):deed>", "workspace_deed", self.act, methods=["POST"])
        pages.add_url_rule("/ui/workspaces/<slug>/link", "link_workspace", self.link, methods=["POST"])
        pages.add_url_rule("/ui/workspaces/<slug>/open", "open_workspace", self.open)
        pages.add_url_rule("/ui/workspaces/<slug>/events/<uid>", "workspace_events", self.events)

    # --- all of them -----------------------------------------------------------------------------

    def list(self) -> Response:
        return self._listed()

    def create(self) -> Response:
        try:
            seen, is_new = self._desk.request(_asked(NewWorkspace, request.form, "email").email)
        except (InvalidTask, Problem) as error:
            if isinstance(error, Problem) and error.status not in (409, 422, 429):
                raise
            return self._listed(getattr(error, "status", 422), error.detail)
        said = "The workspace is being built." if is_new else "This workspace was there already."
        return go(place(seen.workspace.slug), Notice(said))

    def _listed(self, status: int = 200, wrong: str = "") -> Response:
        return self._frame.page(
            "workspaces.html",
            status,
            all=self._desk.all(),
            wrong=wrong,
            email=request.form.get("email", ""),
            code_runs_as=self._desk.premises.code_runs_as,
        )

    # --- one -------------------------------------------------------------------------------------

    def show(self, slug: str, link: str = "") -> Response:
        seen = self._desk.one(slug, tombstone=True)
        task, state = seen.task, seen.workspace.state
        return self._frame.page(
            "workspace.html",
            seen=seen,
            workspace=seen.workspace,
            task=task,
            progress=task and shown.progress(task),
            log=self._logbook.read(task.uid) if task else NOTHING_LOGGED,
            offered=() if seen.is_busy else _offered(seen.workspace),
            tested=[*_tested(seen.workspace.test or {})],
            is_built=state in OFFERED,
            is_gone=state == DELETED,
            here=place(slug),
            whole_address=place(slug),  # also where this answers a form
            link=link,
            code_runs_as=self._desk.premises.code_runs_as,
            pythons=self._desk.premises.pythons,
        )

    def act(self, slug: str, deed: str) -> Response:
        try:
            seen = self._deeds[deed](slug, request.form)
        except (InvalidTask, InvalidTransition, Problem) as error:
            if isinstance(error, Problem) and error.status not in (409, 422):
                raise
            return go(place(slug), Notice(f"Nothing was changed: {getattr(error, 'detail', error)}.", good=False))
        return go(place(seen.workspace.slug), Notice(DONE.get(deed, "It has begun; the log below tells of it.")))

    def _simple(self, action: str) -> Callable[[str, Mapping[str, str]], SeenWorkspace]:
        return lambda slug, _: self._desk.act(slug, action)

    def _cancelled(self, slug: str, form: Mapping[str, str]) -> SeenWorkspace:
        """The action that is at work, or comes next, if it is the one whose button this was."""
        seen = self._desk.one(slug)
        if seen.task is None:
            raise Problem(409, "nothing is at work on this workspace")
        if seen.is_busy and form.get("task", seen.task.uid) != seen.task.uid:
            raise Problem(409, f"that action has ended; {seen.task.type} is at work now")
        self._calls.cancelled(seen.task.uid)
        return seen

    def events(self, slug: str, uid: str) -> Response:
        """Of one of its actions: a task of another workspace is none of this visitor's business."""
        seen = self._desk.one(slug, tombstone=True)
        if checked(uid) not in [task.uid for task in seen.tasks]:
            raise missing(uid)
        return self._events.answer(uid, request.environ, self._masking.listed)

    # --- a link of one's own ---------------------------------------------------------------------

    def link(self, slug: str) -> Response:
        """Shows it once, to be sent to the person."""
        environ = request.environ
        scheme = "https" if is_encrypted(environ) else "http"
        link = OwnLinks(self._desk.premises.folder).of(self._desk.one(slug).workspace)
        return self.show(slug, f"{scheme}://{environ.get('HTTP_HOST', '')}{link}")

    def open(self, slug: str) -> Response:
        """Nothing tells apart a wrong secret and a workspace that is not there."""
        key = request.args.get("key", "")
        if self._opened(slug, key) is None:
            raise Problem(403, "this link opens nothing any more; ask whoever gave it to you for a new one")
        answer = go(place(slug))
        answer.set_cookie(
            COOKIE, key, max_age=COOKIE_SECONDS, path=place(slug),
            secure=is_encrypted(request.environ), httponly=True, samesite="Lax",
        )  # fmt: skip
        return answer

    def owner(self) -> Callable[[], Visitor | None]:
        """Tells, now and later, who comes with the cookie of the workspace that this request is about. Lax, so that a
        link in a mail works; forms of other sites are refused as everywhere."""
        secret, slug = request.cookies.get(COOKIE), (request.view_args or {}).get("slug", "")
        if secret is None or request.endpoint not in OF_ONE:
            return lambda: None
        return partial(self._owner, slug, secret)

    def _owner(self, slug: str, secret: str) -> Visitor | None:
        workspace = self._opened(slug, secret) if self._desk.is_open else None
        return Visitor(workspace.slug, may_write=True, workspace=workspace.slug) if workspace else None

    def _opened(self, slug: str, secret: str) -> Workspace | None:
        """The workspace that this secret opens, if it is this one."""
        premises = self._desk.premises
        try:
            with disk.usable(disk.WORKSPACES):
                workspace = premises.shelf.read(slug)
        except UnreadableRecord:
            return None
        return workspace if workspace and OwnLinks(premises.folder).opens(workspace, secret) else None


def _offered(workspace: Workspace) -> tuple[tuple[str, str], ...]:
    """What has failed after it had served may be mended by a push."""
    if workspace.state == FAILED and workspace.address:
        return (RESUME, UPDATE)
    return OFFERED.get(workspace.state, (RESUME,))


def _tested(test: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """How the project's tests last ended, in words. What another release has written may differ."""
    if not test:
        return
    failed = f"They failed: the command ended with status {test.get('status')}."
    yield "Result", "They passed." if test.get("passed") is True else failed
    for name, key in (("Commit", "sha"), ("When", "at")):
        if isinstance(value := test.get(key), str):
            yield name, value
    if UID.fullmatch(str(test.get("task"))):
        yield "Task", str(test["task"])


def _asked(kind: type[Asked], form: Mapping[str, str], name: str) -> Asked:
    """What a form asks for; what is left empty is not asked for."""
    given = {name: text} if (text := form.get(name, "").strip()) else {}
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise body_faults.problem(error, kind) from error
