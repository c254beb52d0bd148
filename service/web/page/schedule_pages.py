"""The schedules, one of them, and what is done to it."""

from collections.abc import Callable

from flask import Blueprint, Response, request

from service.errors import InvalidTask
from service.web.api.schedule_calls import ScheduleCalls
from service.web.page import shown
from service.web.page.frame import Frame, Notice, go, own_place
from service.web.problem import Problem


class SchedulePages:
    def __init__(self, frame: Frame, calls: ScheduleCalls) -> None:
        self._frame = frame
        self._calls = calls

    def add_to(self, pages: Blueprint) -> None:
        pages.add_url_rule("/ui/schedules", "schedules", self.list)
        pages.add_url_rule("/ui/schedules/<name>", "schedule", self.show)
        pages.add_url_rule("/ui/schedules/<name>/run", "run_schedule", self.run, methods=["POST"])
        pages.add_url_rule("/ui/schedules/<name>/pause", "pause_schedule", self.pause, methods=["POST"])
        pages.add_url_rule("/ui/schedules/<name>/resume", "resume_schedule", self.resume, methods=["POST"])
        pages.add_url_rule("/ui/schedules/<name>/remove", "remove_schedule", self.remove, methods=["POST"])

    def list(self) -> Response:
        schedules = [self._calls.described(each) for each in self._calls.all()]
        return self._frame.page("schedules.html", schedules=schedules)

    def show(self, name: str) -> Response:
        found = self._calls.described(self._calls.found(name))
        return self._frame.page("schedule.html", schedule=found, args=shown.exact(bytes(found["args"]), ()))

    def run(self, name: str) -> Response:
        try:
            task, _ = self._calls.started(name)
        except InvalidTask as error:
            return go(_place(name), Notice(f"Nothing was created: {error.detail}.", good=False))
        return go(_place(name), Notice("A task is created for now.", to=f"/ui/tasks/{task.uid}", name=task.uid[:8]))

    def pause(self, name: str) -> Response:
        return self._done(name, self._calls.paused, "is paused.")

    def resume(self, name: str) -> Response:
        return self._done(name, self._calls.resumed, "goes on.")

    def remove(self, name: str) -> Response:
        try:
            self._calls.removed(name)
        except Problem as error:
            if error.status != 409:
                raise
            return go(_place(name), Notice(f"Nothing was changed: {error.detail}.", good=False))
        return go("/ui/schedules", Notice(f"The schedule {name} is removed."))

    def _done(self, name: str, do: Callable[[str], object], words: str) -> Response:
        do(name)
        back = own_place(request.form.get("back", _place(name)))
        return go(back, Notice(f"{shown.text(name)} {words}"))


def _place(name: str) -> str:
    return f"/ui/schedules/{name}"
