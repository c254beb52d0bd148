"""What a push means for the workspaces: those of its branch are updated and tested, and of each other one it is said
why it is left as it is.
"""

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from service.tasks.document import QUEUED, SCHEDULED
from service.web.api.workspace_desk import UNBUILT, Desk, Premises, SeenWorkspace
from service.web.problem import Problem
from service.workspaces.places import Places
from service.workspaces.record import ASLEEP, FAILED, READY, STOPPED

UPDATE, TEST = "update", "test"
NO_PUSH: Final = "this tells of no push to a branch that is there, and so nothing was done"
DELIVERY_LIMIT: Final = 100
log = logging.getLogger(__name__)


class Push(NamedTuple):
    branch: str
    sha: str
    before: str = ""
    delivery: str = ""  # the forge's own number of what it tells; the same when it tells again

    @property
    def key(self) -> str:
        return f"{self.before}..{self.sha} {self.delivery[:DELIVERY_LIMIT]}".rstrip()


class Followed(NamedTuple):
    """What was done, and what was left, by the workspace's name: why."""

    detail: str
    changed: Sequence[SeenWorkspace] = ()
    left: Mapping[str, str] = MappingProxyType({})

    def described(self) -> dict[str, Any]:
        return {
            "detail": self.detail,
            "workspaces": [seen.workspace.slug for seen in self.changed],
            "tasks": [task.uid for seen in self.changed for task in seen.tasks if not task.finished],
            "left": [{"workspace": slug, "because": why} for slug, why in self.left.items()],
        }


def follow(desk: Desk, push: Push | None) -> Followed:
    """What runs on a workspace ends first. If an update waits already, it brings this push, too."""
    if push is None:
        return Followed(NO_PUSH)
    meant = [seen for seen in desk.all() if seen.workspace.branch == push.branch]
    left = {seen.workspace.slug: why for seen in meant if (why := _left(seen, push.sha))}
    changed: list[SeenWorkspace] = []
    refused: Problem | None = None
    for seen in meant:
        slug = seen.workspace.slug
        if slug in left:
            continue
        try:
            changed.append(desk.queue(seen, UPDATE))
            changed[-1] = desk.queue(changed[-1], TEST, after=changed[-1].tasks[-1].uid)
        except Problem as problem:  # which keeps the push from no other workspace
            log.warning("a push to %s: %s", slug, problem.detail)
            left[slug], refused = problem.detail, problem
    if refused and not changed:
        raise refused
    return Followed(_detail(desk.premises, push, len(meant), len(changed)), changed, left)


def _left(seen: SeenWorkspace, sha: str) -> str:
    """Why nothing is done to this workspace; an empty text if something is."""
    workspace = seen.workspace
    if workspace.state in UNBUILT and not workspace.address:
        return f"it is {workspace.state}, and not built to its end: it may be built without this push; update it then"
    if workspace.state not in (READY, STOPPED, ASLEEP, FAILED):
        return f"it is {workspace.state}"
    if sha == workspace.pushed_sha:
        return "it is the commit that its branch was made with, and it is there already"
    if any(task.type == f"workspace.{UPDATE}" and task.status in (QUEUED, SCHEDULED) for task in seen.tasks):
        return "an update waits already, and brings this push, too"
    return ""


def _detail(premises: Premises, push: Push, meant: int, changed: int) -> str:
    if changed:
        return f"{_counted(changed)} of the branch {push.branch!r} {'is' if changed == 1 else 'are'} updated and tested"
    if meant:
        return f"{_counted(meant)} of the branch {push.branch!r} {'is' if meant == 1 else 'are'} left: see `left`"
    if push.branch == _main_branch(premises):
        return (
            f"no workspace has the main branch, {push.branch!r}, and so nothing was done. Workspaces begin with it as "
            "it is when they are made; those that are there have it when somebody merges it into their branches"
        )
    return f"no workspace has the branch {push.branch!r}, and so nothing was done"


def _counted(number: int) -> str:
    return "1 workspace" if number == 1 else f"{number} workspaces"


def _main_branch(premises: Premises) -> str:
    """As the mirror knows it; an empty text before the first workspace."""
    try:
        told = (Places.under(premises.folder).mirror / "HEAD").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return told.strip().removeprefix("ref: refs/heads/")
