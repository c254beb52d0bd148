"""Who did what: the audit log of this host."""

from typing import Any, Final, NamedTuple

from flask import Blueprint, Response, request

from service.observe.audit import AuditLog
from service.web.api.uids import UID
from service.web.page import shown
from service.web.page.frame import Frame

MOST: Final = 200
FILTERS: Final = ("by", "did", "uid")
SHOWN: Final = ("time", "by", "did", "uid", "type", "from")
LEFT_OUT: Final = (*SHOWN, "process", "request_id")


class AuditedDeed(NamedTuple):
    """A line of the log, each part as text."""

    time: str
    by: str
    did: str
    uid: str
    type: str
    origin: str
    more: str

    @property
    def is_of_task(self) -> bool:
        return UID.fullmatch(self.uid) is not None


class AuditTrail:
    def __init__(self, frame: Frame, audit: AuditLog | None) -> None:
        self._frame = frame
        self._audit = audit

    def add_to(self, pages: Blueprint) -> None:
        pages.add_url_rule("/ui/audit", "audit", self.show)

    def show(self) -> Response:
        latest = self._audit.latest() if self._audit else []
        asked = {name: value for name in FILTERS if (value := request.args.get(name, "").strip())}
        lines = [line for line in latest if all(line.get(name) == value for name, value in asked.items())]
        return self._frame.page(
            "audit.html",
            asked=asked,
            deeds=sorted({str(line.get("did")) for line in latest}),
            names=sorted({str(line["by"]) for line in latest if line.get("by")}),
            lines=[_line(line) for line in lines[:MOST]],
            more=max(0, len(lines) - MOST),
        )


def _line(line: dict[str, Any]) -> AuditedDeed:
    time, by, did, uid, kind, origin = (str(line.get(name) or "") for name in SHOWN)
    more = [f"{name}: {value}" for name, value in line.items() if name not in LEFT_OUT and value is not None]
    return AuditedDeed(shown.exactly(time), by, did, uid, kind, origin, ", ".join(more))
