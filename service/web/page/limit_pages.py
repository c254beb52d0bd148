"""The limits: what each says, how many tasks wait at it, and the forms that set and remove one."""

from collections.abc import Mapping
from typing import Final

from flask import Blueprint, Response, request

from service.errors import InvalidTask
from service.web.api.limit_calls import LimitCalls
from service.web.page import limit_form
from service.web.page.frame import SAID, Frame, Notice, go
from service.web.page.remembered import Remembered
from service.web.problem import Problem, wrong

NAMES: Final = ("name", *limit_form.FIELDS)


class LimitPages:
    def __init__(self, frame: Frame, calls: LimitCalls) -> None:
        self._frame = frame
        self._calls = calls
        self._limits = Remembered(calls.all)

    def add_to(self, pages: Blueprint) -> None:
        pages.add_url_rule("/ui/limits", "limits", self.list)
        pages.add_url_rule("/ui/limits", "make_limit", self.make, methods=["POST"])
        pages.add_url_rule("/ui/limits/<name>", "limit", self.show)
        pages.add_url_rule("/ui/limits/<name>", "set_limit", self.set, methods=["POST"])
        pages.add_url_rule("/ui/limits/<name>/remove", "remove_limit", self.remove, methods=["POST"])

    def list(self) -> Response:
        return self._listed({})

    def make(self) -> Response:
        """A new one: what is set already is not changed by accident."""
        name = request.form.get("name", "").strip()
        try:
            if any(each["limit"] == name and each["set"] for each in self._calls.all()):
                raise wrong(f"name: {name} is set already; open it in the list to change it", field="name")
            return self._stored(name)
        except (InvalidTask, Problem) as error:
            return self._listed(request.form, _of_form(error))

    def show(self, name: str) -> Response:
        return self._shown(name, {})

    def set(self, name: str) -> Response:
        try:
            return self._stored(name)
        except (InvalidTask, Problem) as error:
            return self._shown(name, request.form, _of_form(error))

    def remove(self, name: str) -> Response:
        self._calls.remove(name)
        return go("/ui/limits", Notice(f"The limit {name} is removed. Who waited at it runs."))

    def _stored(self, name: str) -> Response:
        existed = self._calls.set(name, limit_form.rule(request.form))
        return go(f"/ui/limits/{name}", Notice("The limit is changed." if existed else "The limit is set."))

    def _listed(self, values: Mapping[str, str], error: Problem | None = None) -> Response:
        """After a form that has done something, as it is now."""
        limits = self._calls.all() if SAID in request.cookies else self._limits.get()
        return self._page("limits.html", values, error, limits=limits)

    def _shown(self, name: str, values: Mapping[str, str], error: Problem | None = None) -> Response:
        """With the form as it was sent, or as the limit is."""
        limit = self._calls.one(name)
        return self._page("limit.html", values or limit_form.texts(limit), error, limit=limit)

    def _page(self, template: str, values: Mapping[str, str], error: Problem | None, **more: object) -> Response:
        status, words, field = (error.status, error.detail, error.members.get("field")) if error else (200, "", None)
        shown = {name: values.get(name, "") for name in NAMES}
        return self._frame.page(template, status, values=shown, wrong=words, field=field, **more)


def _of_form(error: InvalidTask | Problem) -> Problem:
    """What stands beside the form. Any other problem has a page of its own."""
    if isinstance(error, InvalidTask):
        return wrong(error.detail, field=error.field)
    if error.status not in (409, 422):
        raise error
    return error
