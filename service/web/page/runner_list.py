"""The runners of all hosts, and what each executes."""

from flask import Blueprint, Response

from service.store import Store
from service.web.page.frame import Frame
from service.web.page.remembered import Remembered


class RunnerList:
    def __init__(self, frame: Frame, store: Store) -> None:
        self._frame = frame
        self._runners = Remembered(store.roster.at_work)

    def add_to(self, pages: Blueprint) -> None:
        pages.add_url_rule("/ui/runners", "runners", self.show)

    def show(self) -> Response:
        runners = sorted(self._runners.get(), key=lambda each: (each.host, each.pid))
        return self._frame.page("runners.html", runners=runners, hosts=len({each.host for each in runners}))
