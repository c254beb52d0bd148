"""HTTP to the service that runs, by the standard library alone.

A call that surely was not done is sent again: nobody listened, or a 429. One that was perhaps done (the connection was
lost, 502, 503, 504) is sent again only if it may be done twice: it reads, it sets or removes something, or it has an
Idempotency-Key. What such a try has perhaps removed is not found by the next one, and that is no fault.
Pauses are chosen by chance below a bound that doubles, and Retry-After comes before them. The patience begins with the
first fault. Where nobody listens at all there is none, unless the service has answered before or one was asked for:
circusd holds the socket through every reload.
"""

import contextlib
import http.client
import json
import math
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from service.cli import address
from service.errors import SandboxError

FAILED: Final = 1
MISUSED: Final = 2
NOT_ALLOWED: Final = 4
NOT_FOUND: Final = 5
CONFLICT: Final = 6
UNAVAILABLE: Final = 7
TIMED_OUT: Final = 124
EXIT_CODES: Final = {
    **dict.fromkeys((400, 413, 414, 415, 422, 431), MISUSED),
    **dict.fromkeys((401, 403, 421), NOT_ALLOWED),
    **dict.fromkeys((408, 429, 502, 503, 504), UNAVAILABLE),
    404: NOT_FOUND,
    409: CONFLICT,
}
SURELY_NOT_DONE: Final = (408, 429)
PERHAPS_DONE: Final = (502, 503, 504)

PATIENCE_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 10.0
STREAM_SECONDS: Final = 45.0  # a stream has a heartbeat
LEAST_SECONDS: Final = 0.01  # a socket takes 0 for: do not wait
FIRST_BOUND_SECONDS: Final = 0.1
HIGHEST_BOUND_SECONDS: Final = 5.0


class CallFailed(SandboxError):
    """The service refused a call, or could not be asked; `exit_code` tells which. `problem` is its answer."""

    def __init__(self, message: str, exit_code: int = FAILED, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.problem = problem or {}


class _Fault(Exception):
    """One try that failed, and what is said if it was the last one."""

    def __init__(self, failure: CallFailed, *, done: bool = True, refused: bool = False, after: float = 0.0) -> None:
        super().__init__(failure)
        self.failure = failure
        self.done = done  # perhaps
        self.refused = refused
        self.after = after


class _Answer(dict[str, Any]):
    """An object of an answer: each field that is read is one that a sandbox has."""

    def __missing__(self, name: str) -> Any:
        raise CallFailed(f"the answer has no {name!r}: what answers is no sandbox, or one of another version.")


class _Request(NamedTuple):
    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = {}
    wait_seconds: float = 0.0  # that the service may hold its answer back
    again: bool = True  # it may be done twice
    removes: bool = False


class Service:
    """`asked_seconds`: for how long the caller wants it tried, if that was said; else `patience_seconds`."""

    def __init__(
        self,
        asked_seconds: float | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        *,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.place = address.place(os.environ)
        self._token = address.token(os.environ)
        self._asked_to_be_patient = asked_seconds is not None
        self._patience = patience_seconds if asked_seconds is None else asked_seconds
        self._answer_seconds = answer_seconds
        self._has_answered = False
        self._socket: socket.socket  # of the last try: a connection gives it away to an answer that has no end

    def get(self, path: str, query: Sequence[tuple[str, str]] = (), *, wait_seconds: int = 0) -> Any:
        """With `wait_seconds`, the service may hold its answer back for so long."""
        headers = {"Prefer": f"wait={wait_seconds}"} if wait_seconds else {}
        return self._call(_Request("GET", _with(path, query), headers=headers, wait_seconds=wait_seconds))

    def post(self, path: str, body: Any = None, *, key: str | None = None, again: bool = False) -> Any:
        """With a key, or if it may be done `again`, it is sent again."""
        if key is not None and not (key and key.isascii() and key.isprintable()):
            raise CallFailed(f"{key!r} is no key: allowed are the characters of ASCII that can be seen.", MISUSED)
        headers = {} if key is None else {"Idempotency-Key": key}
        return self._call(_Request("POST", path, {} if body is None else body, headers, again=again or key is not None))

    def put(self, path: str, body: Any) -> Any:
        return self._call(_Request("PUT", path, body))

    def delete(self, path: str, *, again: bool = True) -> Any:
        return self._call(_Request("DELETE", path, again=again))

    def remove(self, path: str) -> Any:
        """What was there; None if a try whose answer was lost has perhaps removed it."""
        return self._call(_Request("DELETE", path, removes=True))

    def _call(self, request: _Request) -> Any:
        with contextlib.closing(self.place.connection(self._answer_seconds + request.wait_seconds)) as connection:
            return self._insist(request, connection, self._told_in)

    def _told_in(self, answer: http.client.HTTPResponse) -> Any:
        """An object; None with a 204."""
        text = answer.read()
        if answer.status == http.HTTPStatus.NO_CONTENT:
            return None
        found = read_json(text)
        if not isinstance(found, dict):
            raise self._no_sandbox()
        return found

    def _lines_of(self, answer: http.client.HTTPResponse) -> Iterator[bytes]:
        if not answer.getheader("Content-Type", "").startswith("text/event-stream"):
            raise self._no_sandbox()
        return iter(answer)

    def _no_sandbox(self) -> CallFailed:
        return CallFailed(f"what answers at {self.place} is no sandbox. SANDBOX_URL says where to ask.")

    @contextlib.contextmanager
    def stream(self, path: str, headers: Mapping[str, str], until: float = math.inf) -> Iterator[Iterable[bytes]]:
        """The lines of an answer, as they come. Raises OSError or HTTPException where it breaks off, or where it is
        silent `until` then."""
        with contextlib.closing(self.place.connection(STREAM_SECONDS)) as connection:
            lines = self._insist(_Request("GET", path, headers=headers), connection, self._lines_of)
            yield self._in_time(lines, until)

    def _in_time(self, lines: Iterator[bytes], until: float) -> Iterator[bytes]:
        while True:
            self._socket.settimeout(max(LEAST_SECONDS, min(STREAM_SECONDS, until - time.monotonic())))
            if (line := next(lines, None)) is None:
                return
            yield line

    def _insist(
        self,
        request: _Request,
        connection: http.client.HTTPConnection,
        use: Callable[[http.client.HTTPResponse], Any],
    ) -> Any:
        until, bound, perhaps_done = 0.0, FIRST_BOUND_SECONDS, False
        while True:
            try:
                return self._try(request, connection, use)
            except CallFailed as failure:
                if request.removes and perhaps_done and failure.exit_code == NOT_FOUND:
                    return None
                raise
            except _Fault as fault:
                connection.close()
                perhaps_done = perhaps_done or fault.done
                until = until or time.monotonic() + self._patience
                pause = fault.after + _by_chance(bound)
                if not self._is_worth_another(fault, request.again) or time.monotonic() + pause >= until:
                    raise fault.failure from fault.__cause__
                bound = min(2 * bound, HIGHEST_BOUND_SECONDS)
                time.sleep(pause)

    def _is_worth_another(self, fault: _Fault, again: bool) -> bool:
        if fault.refused:
            return self._has_answered or self._asked_to_be_patient
        return again or not fault.done

    def _try(
        self,
        request: _Request,
        connection: http.client.HTTPConnection,
        use: Callable[[http.client.HTTPResponse], Any],
    ) -> Any:
        connected = False
        try:
            connection.connect()
            connected, self._socket = True, connection.sock
            body = None if request.body is None else _encoded(request.body)
            connection.request(request.method, self.place.prefix + request.path, body, self._headers(request))
            answer = connection.getresponse()
            self._has_answered = True
            if answer.status < 300:
                return use(answer)
            raise self._refusal(request, answer, answer.read())
        except (OSError, OverflowError, http.client.HTTPException) as error:  # OverflowError: of a chunk's length
            told = f"no service answers at {self.place}: {_reason(error)}.\n{self._advice()}"
            raise _Fault(CallFailed(told, UNAVAILABLE), done=connected, refused=not connected) from error

    def _headers(self, request: _Request) -> dict[str, str]:
        headers = dict(request.headers)
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    def _advice(self) -> str:
        if "SANDBOX_URL" in os.environ:
            return "SANDBOX_URL says where to ask."
        return "`sandbox run` starts one here; SANDBOX_URL says where another one is."

    def _refusal(self, request: _Request, answer: http.client.HTTPResponse, body: bytes) -> _Fault | CallFailed:
        problem = _problem(body)
        failure = CallFailed(self._told(request, answer, problem), EXIT_CODES.get(answer.status, FAILED), problem)
        if answer.status in (*SURELY_NOT_DONE, *PERHAPS_DONE):
            return _Fault(failure, done=answer.status in PERHAPS_DONE, after=_seconds(answer.getheader("Retry-After")))
        return failure

    def _told(self, request: _Request, answer: http.client.HTTPResponse, problem: Mapping[str, Any]) -> str:
        """What happened, and below it where to look further."""
        leads = f", and leads to {place}" if answer.status < 400 and (place := answer.getheader("Location")) else ""
        unknown = f"what answers at {self.place} is perhaps no sandbox{leads}"
        detail = str(problem.get("detail") or unknown).rstrip(".")
        if answer.status == 401:
            told = "SANDBOX_TOKEN holds none that it knows" if self._token else "set SANDBOX_TOKEN"
            detail = f"the service wants a token: {told}"
        found_by = f", request {number}" if (number := answer.getheader("X-Request-ID")) else ""
        return f"{detail}.\n({request.method} {self.place.prefix}{request.path}: {answer.status}{found_by})"


def _problem(body: bytes) -> dict[str, Any]:
    found = read_json(body)
    return found if isinstance(found, dict) else {}


def read_json(text: str | bytes) -> Any:
    """None if it is none."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text, object_hook=_Answer)


def _by_chance(bound: float) -> float:
    import random  # only few commands need it, and all would wait for it

    return random.uniform(0, bound)


def _with(path: str, query: Sequence[tuple[str, str]]) -> str:
    return f"{path}?{urlencode([(name, _text(value)) for name, value in query])}" if query else path


def _text(given: str) -> str:
    """As it was given. A shell hands over any bytes."""
    try:
        given.encode()
    except UnicodeEncodeError as error:
        raise CallFailed(f"{given!r} is no text in UTF-8.", MISUSED) from error
    return given


def _encoded(body: Any) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError as error:
        raise CallFailed("what is to be sent is nested too deeply.", MISUSED) from error
    except ValueError as error:
        raise CallFailed(f"what is to be sent is no JSON: {error}.", MISUSED) from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0


def part(name: str) -> str:
    """A name as a part of a path."""
    return quote(_text(name), safe="")
