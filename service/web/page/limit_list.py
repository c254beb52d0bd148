"""The limits: what each says, and how many tasks wait at it."""

from collections.abc import Callable, Sequence
from typing import Any

from flask import Blueprint, Response

from service.web.page.frame import Frame
from service.web.page.remembered import Remembered


class LimitList:
    def __init__(self, frame: Frame, limits: Callable[[], Sequence[dict[str, Any]]]) -> None:
        self._frame = frame
        self._limits = Remembered(limits)

    def add_to(self, pages: Blueprint) -> None:
        pages.add_url_rule("/ui/limits", "limits", self.show)

    def show(self) -> Response:
        return self._frame.page("limits.html", limits=self._limits.get())
