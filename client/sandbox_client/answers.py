"""From httpx2's answers and faults to JSON and this package's exceptions."""

import json
import time
from email.utils import parsedate_to_datetime
from typing import Any, Final, NoReturn

import httpx2

from sandbox_client.calls import Call
from sandbox_client.errors import BY_STATUS, ProblemError, UnexpectedAnswer, Unreachable

# Raised before the first byte of the request has gone.
NOT_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


def content(call: Call, response: httpx2.Response) -> Any:
    """What the service answered; raises a ProblemError if that is a problem."""
    request_id = response.headers.get("X-Request-ID", call.request_id)
    if response.status_code >= 400:
        kind = BY_STATUS.get(response.status_code, ProblemError)
        retry_after = _retry_after(response.headers)
        raise kind(response.status_code, _problem(response), request_id=request_id, retry_after=retry_after)
    if response.status_code == 204 and call.method == "DELETE":
        return {}
    found = _json(response) if response.status_code in (200, 201, 202) else None
    if not isinstance(found, dict):
        raise _unexpected(call, response)
    return found


def is_stream(response: httpx2.Response) -> bool:
    kind = response.headers.get("Content-Type", "")
    return response.status_code == 200 and kind.startswith("text/event-stream")


def refuse(call: Call, response: httpx2.Response) -> NoReturn:
    """Raises what an answer means that should have been a stream of events."""
    content(call, response)
    raise _unexpected(call, response)


def _unexpected(call: Call, response: httpx2.Response) -> UnexpectedAnswer:
    message = f"{response.status_code}, which no sandbox answers to {call.method} {response.url}: see SANDBOX_URL"
    request_id = response.headers.get("X-Request-ID", call.request_id)
    return UnexpectedAnswer(message, status=response.status_code, request_id=request_id)


def unreachable(call: Call, place: str, error: httpx2.RequestError) -> Unreachable:
    reason = str(error) or type(error).__name__
    sent = not isinstance(error, NOT_SENT)
    return Unreachable(f"no answer from {place}: {reason}", request_id=call.request_id, sent=sent)


def _problem(response: httpx2.Response) -> dict[str, Any]:
    """What a proxy answers is no problem document, and becomes one."""
    found = _json(response)
    if isinstance(found, dict):
        return found
    return {"type": "about:blank", "title": response.reason_phrase, "status": response.status_code}


def _json(response: httpx2.Response) -> Any:
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        return None


def _retry_after(headers: httpx2.Headers) -> float:
    """In seconds. A date counts from the date of the answer: the clocks of the two sides may differ."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    due = _moment(text)
    if due is None:
        return 0.0
    now = _moment(headers.get("Date", ""))
    return max(0.0, due - (time.time() if now is None else now))


def _moment(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
