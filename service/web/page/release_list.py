"""The releases: what the first stage has proved, each with the button that brings it to the second."""

from flask import Blueprint, Response

from service.errors import InvalidTask
from service.web.api.release_desk import ReleaseDesk
from service.web.page.frame import Frame, Notice, go
from service.web.problem import Problem

PLACE = "/ui/releases"


class ReleaseList:
    def __init__(self, frame: Frame, desk: ReleaseDesk) -> None:
        self._frame = frame
        self._desk = desk

    def add_to(self, pages: Blueprint) -> None:
        pages.add_url_rule(PLACE, "releases", self.show)
        pages.add_url_rule(f"{PLACE}/<id>/promote", "promote_release", self.promote, methods=["POST"])

    def show(self) -> Response:
        stages, seen = self._desk.stages, self._desk.seen()
        return self._frame.page("releases.html", stages=stages, seen=seen, may_promote=self._desk.may_promote)

    def promote(self, id: str) -> Response:
        try:
            task = self._desk.promote(id)
        except (InvalidTask, Problem) as error:
            if isinstance(error, Problem) and error.status not in (404, 409):
                raise
            return go(PLACE, Notice(f"Nothing was changed: {error.detail}.", good=False))
        said = f"{id} goes to {self._desk.stages.second}."
        return go(PLACE, Notice(said, to=f"/ui/tasks/{task.uid}", name="Its log tells of it."))
