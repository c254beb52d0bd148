"""Where a workspace stands: its port and paths, its user, its folders."""

from service.workspaces.steps.step import BuildStep
from service.workspaces.work import Work


class Reserve(BuildStep):
    name = "reserve"

    def check(self, work: Work) -> bool:
        return bool(work.record.port and work.record.paths)

    def apply(self, work: Work) -> None:
        home = work.plan.places.home(work.slug)
        work.record.paths = {"home": str(home.path), "code": str(home.code), "log": str(home.log)}
        work.plan.shelf.reserve_port(work.record)

    def undo(self, work: Work) -> None:
        work.record.port = None
        work.record.paths = {}


class User(BuildStep):
    name = "user"

    def check(self, work: Work) -> bool:
        return work.facts.user

    def apply(self, work: Work) -> None:
        work.hands.make_user(work.slug)

    def undo(self, work: Work) -> None:
        work.hands.remove_user(work.slug)


class Folders(BuildStep):
    name = "folders"

    def check(self, work: Work) -> bool:
        return work.facts.folders

    def apply(self, work: Work) -> None:
        work.hands.make_folders(work.slug)

    def undo(self, work: Work) -> None:
        work.hands.remove_folders(work.slug)
