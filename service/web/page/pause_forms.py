"""The forms that pause and resume a queue or a type."""

from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from flask import Blueprint, Response, request

from service.errors import InvalidTask
from service.web.api.pausing import LONGEST_REASON, NewPause
from service.web.page import shown
from service.web.page.frame import Notice, go, own_place

LONGEST_MINUTES: Final = 60 * 24 * 366


class Pausable(Protocol):
    """The calls of queues, or of types."""

    def put(self, name: str, asked: NewPause) -> object: ...

    def lift(self, name: str) -> object: ...


class PauseForms:
    def __init__(self, **calls: Pausable) -> None:
        """By the first part of their addresses."""
        self._calls = calls

    def add_to(self, pages: Blueprint) -> None:
        kinds = ", ".join(self._calls)
        pages.add_url_rule(f"/ui/<any({kinds}):kind>/<name>/pause", "pause", self.pause, methods=["POST"])
        pages.add_url_rule(f"/ui/<any({kinds}):kind>/<name>/resume", "resume", self.resume, methods=["POST"])

    def pause(self, kind: str, name: str) -> Response:
        asked = NewPause(reason=request.form.get("reason", "").strip()[:LONGEST_REASON] or None)
        minutes = _minutes(request.form.get("minutes", "").strip())
        if minutes is not None:
            asked.until = datetime.now(UTC) + timedelta(minutes=minutes)
        self._calls[kind].put(name, asked)
        return _back(kind, f"{name} is paused.")

    def resume(self, kind: str, name: str) -> Response:
        self._calls[kind].lift(name)
        return _back(kind, f"{name} goes on.")


def _minutes(text: str) -> float | None:
    if not text:
        return None
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1
    if not 0 < minutes <= LONGEST_MINUTES:
        raise InvalidTask("minutes: a number, at most a year; or nothing, for until it is resumed", field="minutes")
    return minutes


def _back(kind: str, words: str) -> Response:
    return go(own_place(request.form.get("back", f"/ui/{kind}")), Notice(shown.text(words)))
