"""Retrying or cancelling all that a filter shows: a question that says how many there are, and then the deed."""

from collections.abc import Sequence
from typing import Final

from flask import Blueprint, Response, request
from werkzeug.datastructures import MultiDict

from service.store import EVERYTHING, Filter
from service.tasks.declare import CANCEL_MANY, RETRY_MANY
from service.web.api import listing
from service.web.api.many_calls import KINDS, ManyCalls
from service.web.page.frame import Frame, Notice, address, go
from service.web.page.typed_filter import typed
from service.web.problem import Problem

TYPES: Final = {"retry": RETRY_MANY, "cancel": CANCEL_MANY}


def offered(asked: MultiDict[str, str], filters: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """What can be done to all that these filters show, and where one is asked about it."""
    statuses = set(asked["status"].split(",")) if "status" in asked else None
    return [
        (do, address("/ui/tasks/all", [("do", do), *filters]))
        for do, kind in TYPES.items()
        if filters and (statuses is None or statuses & {*KINDS[kind]})
    ]


class ManyAtOnce:
    def __init__(self, frame: Frame, many: ManyCalls) -> None:
        self._frame = frame
        self._many = many

    def add_to(self, pages: Blueprint) -> None:
        pages.add_url_rule("/ui/tasks/all", "all", self.ask)
        pages.add_url_rule("/ui/tasks/all", "act_on_all", self.act, methods=["POST"])

    def ask(self) -> Response:
        do, only, filters = _asked(request.args)
        number, more = self._many.matched(TYPES[do], only)
        back = address("/ui/tasks", filters)
        return self._frame.page("all.html", do=do, filters=filters, number=number, more=more, back=back)

    def act(self) -> Response:
        do, only, filters = _asked(request.form)
        task = self._many.created(TYPES[do], only)
        words = f"All that the filter shows are being {'queued again' if do == 'retry' else 'cancelled'}:"
        told = Notice(words, to=f"/ui/tasks/{task.uid}", name="how far that is")
        return go(address("/ui/tasks", filters), told)


def _asked(sent: MultiDict[str, str]) -> tuple[str, Filter, list[tuple[str, str]]]:
    asked = typed(sent)
    do = asked.pop("do", "")
    if do not in TYPES:
        raise Problem(422, "do: one of retry, cancel")
    _, _, only = listing.query(asked)
    if only == EVERYTHING:
        raise Problem(422, "there is no filter: choose at least one, because all that it shows is acted on")
    return do, only, [(name, value) for name, value in asked.items() if name in listing.FILTERS]
