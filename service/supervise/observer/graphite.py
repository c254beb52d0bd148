"""graphite-web: events that it draws into its graphs, and dashboards. Its URL may hold a user and a password."""

import base64
import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlencode
from urllib.request import HTTPRedirectHandler, Request, build_opener

from service.errors import SandboxError

PATIENCE_SECONDS: Final = 5.0  # for each step
LONGEST_SECONDS: Final = 15.0


class GraphiteUnavailable(SandboxError):
    """graphite-web did not take what was sent to it."""


def _apart(url: str) -> tuple[str, str]:
    """The URL as it may be shown, and its user info, in which a password may hold what should be escaped: / or #."""
    scheme, _, rest = url.partition("://")
    if scheme not in ("http", "https"):
        raise GraphiteUnavailable("The URL of graphite-web begins with http:// or https://.")
    login, _, place = rest.rpartition("@")
    return f"{scheme}://{place}", login


class _Nowhere(HTTPRedirectHandler):
    """A redirect would take the password to whatever host it names."""

    def redirect_request(self, *_: Any) -> None: ...


STRAIGHT: Final = build_opener(_Nowhere)


def _redirected(to: str) -> str:
    place = to.rpartition("@")[2][:200]
    return f"redirects to {place}, which is not followed; if graphite-web is there, name that address instead"


class Graphite:
    def __init__(self, url: str) -> None:
        self.url, login = _apart(url.rstrip("/"))
        self._headers = {}
        if login:
            user, _, password = login.partition(":")
            basic = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
            self._headers["Authorization"] = f"Basic {basic}"

    def event(self, what: str, tags: list[str], text: str) -> None:
        self._post("/events/", json.dumps({"what": what, "tags": tags, "data": text}).encode(), "application/json")

    def save_dashboard(self, name: str, state: Mapping[str, Any]) -> None:
        form = urlencode({"state": json.dumps(state)}).encode()
        answer = self._post(f"/dashboard/save/{quote(name)}", form, "application/x-www-form-urlencoded")
        if b"success" not in answer:
            raise GraphiteUnavailable(f"{self.url} did not save the dashboard {name}: {answer[:200]!r}")

    def _post(self, path: str, body: bytes, kind: str) -> bytes:
        try:
            request = Request(self.url + path, body, {"Content-Type": kind, **self._headers}, method="POST")
            return _in_time(lambda: _exchange(request))
        except HTTPError as error:
            with error:
                if to := error.headers.get("Location"):
                    raise GraphiteUnavailable(f"{self.url}{path} {_redirected(to)}") from None
                raise GraphiteUnavailable(f"{self.url}{path} answered {error.code} {error.reason}") from error
        except (OSError, ValueError, HTTPException) as error:
            raise GraphiteUnavailable(f"{self.url}{path} cannot be reached: {error}") from error


def _exchange(request: Request) -> bytes:
    with STRAIGHT.open(request, timeout=PATIENCE_SECONDS) as answer:
        return bytes(answer.read(100_000))


def _in_time(exchange: Callable[[], bytes]) -> bytes:
    """In a thread that can be left: a server that drips is in time with each step, and never ends."""
    answer: Future[bytes] = Future()

    def work() -> None:
        try:
            answer.set_result(exchange())
        except Exception as error:
            answer.set_exception(error)

    thread = threading.Thread(target=work, name="graphite-exchange", daemon=True)
    thread.start()
    thread.join(LONGEST_SECONDS)
    if not answer.done():
        raise TimeoutError(f"it has not answered within {LONGEST_SECONDS:.0f} s")
    return answer.result()
