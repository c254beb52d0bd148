"""How a page is made: a template, what every page has around it, and the headers that keep it safe.

After a form comes a 303 to a page, and what the form has done stands there once. A cookie carries it.
"""

import base64
import binascii
import time
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from flask import Response, request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from service import __version__
from service.store.pauses import Paused
from service.tasks.declare import ON_MANY
from service.tasks.document import SHOWN_STATUSES
from service.tasks.registry import Registry
from service.web import request_id
from service.web.answers import Answer
from service.web.masking import EVERY, may_write
from service.web.page import shown
from service.web.page.statics import Statics
from service.web.problem import Problem

HTML: Final = "text/html; charset=utf-8"
SAID: Final = "sandbox_said"
LOOK: Final = "sandbox_look"
LOOKS: Final = ("light", "dark")
LONGEST_SAID: Final = 600
VISITOR: Final = "sandbox.visitor"  # in the environ of a request
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = (
    ("Content-Security-Policy", POLICY),
    ("X-Frame-Options", "DENY"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
PLACES: Final = (
    ("/ui", "Overview"),
    ("/ui/tasks", "Tasks"),
    ("/ui/queues", "Queues"),
    ("/ui/limits", "Limits"),
    ("/ui/types", "Types"),
    ("/ui/schedules", "Schedules"),
    ("/ui/runners", "Runners"),
    ("/ui/audit", "Audit"),
)
WORKSPACES: Final = ("/ui/workspaces", "Workspaces")  # where there are any
RELEASES: Final = ("/ui/releases", "Releases")


class Notice(msgspec.Struct):
    """What a form has done, and perhaps where to see more."""

    text: str
    good: bool = True
    to: str = ""
    name: str = ""


class Frame:
    def __init__(
        self, statics: Statics, *, asks: bool, paused: Callable[[], Paused], places: Sequence[tuple[str, str]] = PLACES
    ) -> None:
        """`asks`: people have to sign in. `paused` tells which queues and types are."""
        loader = FileSystemLoader(Path(__file__).with_name("templates"))
        self._templates = Environment(
            loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
            auto_reload=False,
        )  # fmt: skip
        self._templates.globals |= {
            "asks": asks, "places": places, "static": statics.address, "statuses": SHOWN_STATUSES,
            "version": __version__, "address": address, "paused": paused,
        }  # fmt: skip
        self._templates.filters |= {
            "ago": shown.ago, "clock": shown.clock, "count": shown.count, "exactly": shown.exactly,
            "progress": shown.progress, "size": shown.size, "stamp": shown.stamp, "span": shown.span,
            "text": shown.text,
        }  # fmt: skip

    def page(self, template: str, status: int = 200, **values: Any) -> Answer:
        said = _said()
        look = request.cookies.get(LOOK)
        around = {
            "here": request.path, "visitor": request.environ.get(VISITOR), "said": said, "now": time.time(),
            "look": look if look in LOOKS else "", "whole_address": _whole_address(),
        }  # fmt: skip
        body = self._templates.get_template(template).render(around | values)
        answer = Answer(body.encode("utf-8", "replace"), status, content_type=HTML)
        if said is not None:
            answer.delete_cookie(SAID, path="/ui")
        return answer

    def part(self, template: str, **values: Any) -> Markup:
        """A part of a page, that is the same for everybody."""
        return Markup(self._templates.get_template(template).render(values))

    def problem(self, error: Problem) -> Answer:
        """A page that says what a problem says."""
        found = request.environ.get(request_id.KEY)
        answer = self.page("problem.html", error.status, problem=error, request_id=found)
        answer.headers.extend(error.headers)
        return answer


def go(to: str, said: Notice | None = None) -> Answer:
    answer = Answer(status=303, headers=[("Location", to)], content_type=HTML)
    if said is not None:
        said.text = said.text[:LONGEST_SAID]
        text = base64.urlsafe_b64encode(msgspec.json.encode(said)).decode()
        answer.set_cookie(SAID, text, max_age=60, path="/ui", httponly=True, samesite="Strict")
    return answer


def address(path: str, query: Any = ()) -> str:
    """A path with a query, whose values are escaped."""
    text = urlencode(query, doseq=True)
    return f"{path}?{text}" if text else path


def secret_arguments(registry: Registry, type: str) -> Container[str]:
    """The arguments that a type keeps from everybody's eyes; all, if it is not known, from who may only read."""
    found = registry.get(type)
    if found is not None:
        return found.secret
    return () if type in ON_MANY or may_write(request.environ) else EVERY


def safe(answer: Response) -> Response:
    for name, value in HEADERS:
        answer.headers[name] = value
    return answer


def own_place(to: str) -> str:
    """The place, if it is one of the page's; the first page otherwise. A browser reads a backslash as a slash."""
    is_own = to == "/ui" or to.startswith(("/ui/", "/ui?"))
    return to if is_own and to.isprintable() and to.isascii() and "\\" not in to else "/ui"


def _whole_address() -> str:
    query = request.query_string.decode("ascii", "replace")
    return f"{request.path}?{query}" if query else request.path


def _said() -> Notice | None:
    sent = request.cookies.get(SAID)
    if not sent:
        return None
    try:
        said = msgspec.json.decode(base64.urlsafe_b64decode(sent), type=Notice)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        return None
    if said.to:
        said.to = own_place(said.to)
    return said
