"""Pause and resume, as queues and types share them: the body, the change, the line in the audit log."""

import time
from datetime import datetime
from typing import Annotated, Any

import msgspec
from flask import request
from msgspec import Meta

from service.observe.audit import AuditLog
from service.store import Pause, Store
from service.tasks import moments
from service.web import auditing, body
from service.web.api.intake import EPOCH, LATEST_SECONDS, MICROSECOND, parsed
from service.web.auth import CALLER
from service.web.problem import wrong

LONGEST_REASON = 1000


class NewPause(msgspec.Struct, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(max_length=LONGEST_REASON)] | None = None
    until: Annotated[datetime, Meta(tz=True)] | None = None


_decoder = msgspec.json.Decoder(NewPause)


class Pausing:
    def __init__(self, store: Store, audit: AuditLog | None, kind: str) -> None:
        self._store = store
        self._audit = audit
        self._kind = kind

    def asked(self) -> NewPause:
        """What the request's body asks for."""
        environ = request.environ
        return parsed(_decoder, body.read(environ)) if has_body(environ) else NewPause()

    def pause(self, name: str, asked: NewPause) -> Pause:
        environ = request.environ
        now = time.time_ns() // 1000
        pause = Pause(
            reason=asked.reason,
            since=moments.stamp_exactly(now),
            until=_until(asked.until, now),
            by=environ.get(CALLER),
        )
        self._store.pauses.pause(self._kind, name, pause)
        self._tell("paused", name, reason=pause.reason, until=pause.until)
        return pause

    def resume(self, name: str) -> None:
        """What does not come back at once, because it is much, comes back by the runners."""
        if self._store.pauses.resume(self._kind, name):
            self._tell("resumed", name)
        self._store.lots.unpark()

    def _tell(self, did: str, name: str, **facts: Any) -> None:
        auditing.tell(self._audit, did, **{self._kind: name}, **facts)


def shown(pause: Pause | None) -> dict[str, Any] | None:
    return None if pause is None else msgspec.structs.asdict(pause)


def has_body(environ: dict[str, Any]) -> bool:
    return environ.get("CONTENT_LENGTH") not in (None, "", "0") or "HTTP_TRANSFER_ENCODING" in environ


def _until(until: datetime | None, now: int) -> str | None:
    if until is None:
        return None
    ends = (until - EPOCH) // MICROSECOND
    if not now < ends <= now + LATEST_SECONDS * 1_000_000:
        raise wrong("until: a time to come, at most ten years from now", field="until")
    return moments.stamp_exactly(ends)
