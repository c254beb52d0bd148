"""Releases as the web knows them: it reads the ledger, and asks for tasks.

Who brings one to the second stage, and that it was proved on the first one, is checked here; the task's handler checks
again that it is what was asked for.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from flask import request

from service.observe.audit import AuditLog
from service.store import Store
from service.tasks.document import Task
from service.tasks.transitions import RELEASE_DEPLOY
from service.web import auditing
from service.web.api import disk
from service.web.api.intake import Intake, Sender
from service.web.api.pushes import Push
from service.web.api.task_calls import TaskCalls
from service.web.auth import CALLER
from service.web.problem import Problem, not_found
from service.web.request_id import KEY as REQUEST_ID
from service.workspaces.releases.ledger import DONE, Ledger, LedgerBusy, Page

PROMOTE: Final = "release.promote"
PUSHED: Final = " releases"  # in place of a caller's name; no token has such a one
OFF: Final = "releases are off here; whoever runs the service turns them on by SANDBOX_PROMOTE_CLONE"
_encode = msgspec.json.Encoder().encode


class Stages(NamedTuple):
    """What the installation has settled for the chain."""

    folder: Path  # of the ledger
    branch: str
    first: str
    second: str
    people: Sequence[str]  # names of the tokens that may bring a release to the second stage
    hook_secret: Path | None = None


class SeenReleases(NamedTuple):
    page: Page
    task: Task | None  # of the last wish; None if it has expired

    @property
    def is_busy(self) -> bool:
        return self.task is not None and not self.task.finished

    @property
    def state(self) -> str:
        """Of the last wish: as its task tells, which may have ended without a word of its handler's."""
        if self.page.wish is None or self.page.wish.state == DONE or self.task is None:
            return self.page.wish.state if self.page.wish else ""
        return self.task.status


class ReleaseDesk:
    def __init__(
        self, *, stages: Stages | None, store: Store, intake: Intake, calls: TaskCalls, audit: AuditLog | None
    ) -> None:
        self._stages = stages
        self._store = store
        self._intake = intake
        self._calls = calls
        self._audit = audit

    @property
    def is_open(self) -> bool:
        return self._stages is not None

    @property
    def stages(self) -> Stages:
        """Raises a problem where releases are off."""
        if self._stages is None:
            raise not_found(OFF)
        return self._stages

    @property
    def may_promote(self) -> bool:
        """May who sends this request?"""
        return request.environ.get(CALLER) in self.stages.people

    def seen(self) -> SeenReleases:
        try:
            page = Ledger(self.stages.folder).read()
        except LedgerBusy as error:
            raise Problem(409, str(error)) from error
        found = self._store.read(page.wish.task) if page.wish else None
        return SeenReleases(page, found.task if found else None)

    def pushed(self, push: Push) -> Task | None:
        """However often a forge tells of a push, that is one task; to come back to a commit is another push."""
        if self._stages is None or push.branch != self._stages.branch:
            return None
        task = self._made(PROMOTE, {"sha": push.sha}, push.key)
        [task], _ = self._calls.created([task])
        return task

    def promote(self, release: str) -> Task:
        """Brings a release that was proved to the second stage."""
        if not self.may_promote:
            raise Problem(403, "this token may not bring releases there; SANDBOX_PROMOTE_PEOPLE names those that may")
        ledger = Ledger(self.stages.folder)
        try:
            with disk.usable(disk.RELEASES), ledger.locked(patience_seconds=0):
                self._refuse(self.seen(), release)
                task = self._made(RELEASE_DEPLOY, {"release": release}, None)
                ledger.wish(release, task.uid, request.environ[CALLER])
                # Before the task is there: who brings something to production is known, whatever ends this process.
                auditing.tell(self._audit, "promoted", release=release, stage=self.stages.second, uid=task.uid)
                self._calls.created([task])
        except LedgerBusy as error:
            raise Problem(409, str(error)) from error
        return task

    def _refuse(self, seen: SeenReleases, release: str) -> None:
        if seen.page.of(release) is None:
            raise not_found(f"{self.stages.first} has proved no such release; GET /releases lists what there is")
        if seen.task is not None and seen.is_busy:
            raise Problem(
                409,
                f"the task {seen.task.uid} brings a release there; wait for its end, or cancel it",
                task=seen.task.uid,
            )

    def _made(self, type: str, args: dict[str, Any], key: str | None) -> Task:
        environ = request.environ
        sender = Sender(PUSHED, key, environ.get(REQUEST_ID))
        task = self._intake.one(_encode({"type": type, "args": args}), sender)
        task.created_by = environ.get(CALLER)
        return task

    def described(self) -> dict[str, Any]:
        seen, stages = self.seen(), self.stages
        wish = seen.page.wish
        return {
            "stages": [stages.first, stages.second],
            "releases": [asdict(one) for one in seen.page.proved],
            "current": seen.page.current,
            "asked": {**asdict(wish), "state": seen.state} if wish else None,
        }
