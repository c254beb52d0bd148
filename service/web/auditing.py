"""A line of the audit log about the request that is answered now."""

from typing import Any

from flask import request

from service.observe.audit import AuditLog
from service.web.auth import CALLER
from service.web.request_id import KEY as REQUEST_ID


def tell(audit: AuditLog | None, did: str, **facts: Any) -> None:
    if audit is not None:
        environ = request.environ
        by, origin = environ.get(CALLER), environ.get("REMOTE_ADDR", "")
        audit.tell(did, by=by, origin=origin, request_id=environ.get(REQUEST_ID), **facts)
