"""Workspaces as the web knows them: it reads their records, and asks for actions, which are tasks.

One action a workspace at a time. Its actions are numbered, and the UID of an action's task follows from its number.
So whoever looks finds those that wait, and of two actions that are asked for at the same moment the second meets the
first, in the script that creates: no lock is held, and none can be left behind. Numbers whose tasks have expired are
used anew. A task that came on another way is known once it runs: the record names it, and it names the workspace.
Whatever slips through waits for the workspace's lock.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from flask import request

from service.store import Store
from service.tasks.document import Task
from service.tasks.transitions import WORKSPACE_DELETE
from service.web.api import disk
from service.web.api.intake import Intake, Sender
from service.web.api.task_calls import TaskCalls
from service.web.auth import CALLER
from service.web.problem import Problem, not_found, wrong
from service.web.request_id import KEY as REQUEST_ID
from service.workspaces import names
from service.workspaces.names import BadEmail
from service.workspaces.record import (
    ASLEEP,
    CREATING,
    DELETE_FAILED,
    DELETING,
    FAILED,
    READY,
    REQUESTED,
    STOPPED,
    Shelf,
    TooManyWorkspaces,
    UnreadableRecord,
    Workspace,
    WorkspaceBusy,
)

ACTIONS: Final = "workspace."
CREATE: Final = "workspace.create"
SIMPLE: Final = ("start", "stop", "restart", "update", "test")  # actions that take nothing but the workspace
NUMBERED: Final = " workspaces"  # in place of a caller's name; no token has such a one
BLOCK: Final = 32
UNBUILT: Final = (REQUESTED, CREATING, FAILED)
RETRY_SECONDS: Final = 60
OFF: Final = "workspaces are off here; whoever runs the service turns them on by SANDBOX_WORKSPACE_GIT"
_encode = msgspec.json.Encoder().encode


class Premises(NamedTuple):
    """What the web knows of how workspaces are set up on this host."""

    folder: Path
    most: int  # that there may be
    most_building: int  # at a time
    pythons: tuple[str, ...]  # the interpreters that they may have
    code_runs_as: str | None = None  # the user, where nothing is isolated
    hook_secret: Path | None = None  # the file with the secret of POST /hooks/git
    expire_days: float = 0.0  # never

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.folder / "records")


class SeenWorkspace(NamedTuple):
    """A workspace, its actions from the oldest to the latest, and the number of the next one."""

    workspace: Workspace
    tasks: tuple[Task, ...] = ()
    number: int = 0

    @property
    def task(self) -> Task | None:
        """The action that runs or comes next; if all have ended, the last one."""
        return next((task for task in self.tasks if not task.finished), self.tasks[-1] if self.tasks else None)

    @property
    def is_busy(self) -> bool:
        return self.task is not None and not self.task.finished

    def then(self, task: Task) -> "SeenWorkspace":
        return self._replace(tasks=(*self.tasks, task), number=self.number + 1)

    def described(self) -> dict[str, Any]:
        members = asdict(self.workspace)
        del members["rest"]
        return members | {"task": self.task.uid if self.task else None}


class Desk:
    def __init__(self, *, premises: Premises | None, store: Store, intake: Intake, calls: TaskCalls) -> None:
        self._premises = premises
        self._store = store
        self._intake = intake
        self._calls = calls

    @property
    def is_open(self) -> bool:
        return self._premises is not None

    @property
    def premises(self) -> Premises:
        """Raises a problem where workspaces are off."""
        if self._premises is None:
            raise not_found(OFF)
        return self._premises

    # --- looking ---------------------------------------------------------------------------------

    def all(self) -> list[SeenWorkspace]:
        """The newest first."""
        with disk.usable(disk.WORKSPACES):
            found = self.premises.shelf.all()
        return self._with_tasks(found)

    def one(self, slug: str, *, tombstone: bool = False) -> SeenWorkspace:
        """Raises a problem if there is none. With `tombstone`, one that was deleted will do."""
        [seen] = self._with_tasks([self._record(slug, tombstone)])
        return seen

    def _record(self, slug: str, tombstone: bool = False) -> Workspace:
        try:
            with disk.usable(disk.WORKSPACES):
                found = self.premises.shelf.read(slug)
        except UnreadableRecord as error:
            raise Problem(409, f"the record of this workspace cannot be read: {error}") from error
        if found is None or not (found.exists or tombstone):
            raise not_found("there is no such workspace; GET /workspaces lists those that there are")
        return found

    def _with_tasks(self, workspaces: Sequence[Workspace]) -> list[SeenWorkspace]:
        """One round trip for all of them, and one more where there have been many actions."""
        found: list[dict[str, tuple[int, Task]]] = [{} for _ in workspaces]
        begin, places = 0, [*range(len(workspaces))]
        while places:
            numbers = range(begin, begin + BLOCK)
            uids = [(place, n, self._uid(workspaces[place], n)) for place in places for n in numbers]
            if not begin:
                uids += [(place, -1, task) for place in places if (task := workspaces[place].task)]
            documents = self._store.read_many([uid for _, _, uid in uids])
            for (place, number, uid), document in zip(uids, documents, strict=True):
                if document is not None and (number >= 0 or _is_of(document.task, workspaces[place])):
                    found[place].setdefault(uid, (number, document.task))
            begin += BLOCK
            places = [place for place in places if begin - 1 in {number for number, _ in found[place].values()}]
        return [_seen(workspace, [*of.values()]) for workspace, of in zip(workspaces, found, strict=True)]

    def _uid(self, workspace: Workspace, number: int) -> str:
        return self._intake.uid(self._sender(workspace, number))

    def _sender(self, workspace: Workspace, number: int) -> Sender:
        key = f"{workspace.slug}/{workspace.generation}/{number}"
        return Sender(NUMBERED, key, request.environ.get(REQUEST_ID))

    # --- acting ----------------------------------------------------------------------------------

    def request(self, email: str, *, take_over: bool = False) -> tuple[SeenWorkspace, bool]:
        """The workspace of an email, and whether its creation begins now, or goes on with a branch to take over."""
        premises = self.premises
        try:
            with disk.usable(disk.WORKSPACES):
                workspace, _ = premises.shelf.request(email, most=premises.most, most_building=premises.most_building)
        except BadEmail as error:
            raise wrong(f"email: {error}", field="email") from error
        except TooManyWorkspaces as error:
            after = str(error.retry_after or RETRY_SECONDS)
            raise Problem(429, str(error), headers=[("Retry-After", after)]) from error
        except WorkspaceBusy as error:
            raise _busy(error.task) from error
        except UnreadableRecord as error:
            raise Problem(409, f"the record of this workspace cannot be read: {error}") from error
        [seen] = self._with_tasks([workspace])
        if seen.is_busy and take_over and workspace.state in UNBUILT and not _takes_over(seen):
            self._refuse_if_busy(seen)  # what is at work leaves the branch alone
        begins = workspace.state == REQUESTED or (take_over and workspace.state in UNBUILT)
        if seen.is_busy or not begins:
            return seen, False
        return self._begun(seen, CREATE, {"email": workspace.email, "take_over": take_over}), True

    def act(self, slug: str, action: str, **args: Any) -> SeenWorkspace:
        """`action` is the last part of its type's name."""
        seen = self.one(slug)
        if seen.workspace.state in (DELETING, DELETE_FAILED):
            self._refuse_if_busy(seen)
            raise Problem(409, f"{slug} is half deleted: resume that, or delete it again")
        return self._begun(seen, f"workspace.{action}", {"slug": slug, **args})

    def rebuild(self, slug: str, python: str | None) -> SeenWorkspace:
        pythons = self.premises.pythons
        if python is not None and python not in pythons:
            known = ", ".join(pythons)
            raise wrong(f"python: there is no {python!r} for workspaces here; there are: {known}", field="python")
        return self.act(slug, "rebuild", python=python)

    def delete(self, slug: str, *, force: bool, branch: str) -> SeenWorkspace:
        return self._begun(self.one(slug), WORKSPACE_DELETE, {"slug": slug, "force": force, "branch": branch})

    def resume(self, slug: str, *, take_over: bool = False) -> SeenWorkspace:
        """Goes on with the creation or the deletion that has failed, or was cut off."""
        seen = self.one(slug)
        self._refuse_if_busy(seen)
        state = seen.workspace.state
        if state in (DELETING, DELETE_FAILED):
            return self._begun(seen, WORKSPACE_DELETE, {"slug": slug})
        if state in (READY, STOPPED, ASLEEP):
            raise Problem(409, f"{slug} is {state}: there is nothing to resume")
        return self._begun(seen, CREATE, {"email": seen.workspace.email, "take_over": take_over})

    def extend(self, slug: str) -> SeenWorkspace:
        """It counts as used now: it falls asleep, and expires, as many days later as are allowed."""
        shelf = self.premises.shelf
        self._record(slug)  # before a lock is made for it
        try:
            with disk.usable(disk.WORKSPACES), shelf.lock(slug):
                workspace = self._record(slug)
                workspace.note_use(time.time(), self.premises.expire_days)
                shelf.write(workspace)
        except WorkspaceBusy as error:
            raise _busy(error.task) from error
        return self.one(slug)

    def queue(self, seen: SeenWorkspace, action: str, **args: Any) -> SeenWorkspace:
        """After whatever runs or waits already, and what somebody has asked for since it was looked at."""
        slug = seen.workspace.slug
        while True:
            try:
                return self._created(seen, f"workspace.{action}", {"slug": slug, **args})
            except Problem:
                fresh = self.one(slug)
                if fresh.number == seen.number:
                    raise
                seen = fresh

    def _begun(self, seen: SeenWorkspace, type: str, args: dict[str, Any]) -> SeenWorkspace:
        self._refuse_if_busy(seen)
        return self._created(seen, type, args)

    def _created(self, seen: SeenWorkspace, type: str, args: dict[str, Any]) -> SeenWorkspace:
        task = self._intake.one(_encode({"type": type, "args": args}), self._sender(seen.workspace, seen.number))
        task.created_by = request.environ.get(CALLER)
        try:
            [task], _ = self._calls.created([task])
        except Problem as error:  # somebody else was faster, and asked for something else
            self._refuse_if_busy(self.one(seen.workspace.slug))
            raise error
        return seen.then(task)

    def _refuse_if_busy(self, seen: SeenWorkspace) -> None:
        if seen.task is not None and seen.is_busy:
            raise _busy(seen.task.uid, seen.task.type)


def _is_of(task: Task, workspace: Workspace) -> bool:
    """What looks after all workspaces is at work on this one, and no action of it."""
    if not task.type.startswith(ACTIONS):
        return False
    args = msgspec.json.decode(task.args)
    if args.get("slug") == workspace.slug:
        return True
    try:
        return names.email(str(args.get("email"))) == workspace.email
    except BadEmail:
        return False


def _seen(workspace: Workspace, numbered: list[tuple[int, Task]]) -> SeenWorkspace:
    tasks = sorted((task for _, task in numbered), key=lambda task: task.created_at)
    return SeenWorkspace(workspace, tuple(tasks), 1 + max((number for number, _ in numbered), default=-1))


def _takes_over(seen: SeenWorkspace) -> bool:
    task = seen.task
    return task is not None and task.type == CREATE and msgspec.json.decode(task.args).get("take_over") is True


def _busy(task: str | None, type: str = "another action") -> Problem:
    named = f" (the task {task})" if task else ""
    return Problem(409, f"{type}{named} is at work on this workspace; wait for its end, or cancel it", task=task)
