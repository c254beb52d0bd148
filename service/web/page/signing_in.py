"""Signing in and out, and the look of the page."""

from typing import Final

from flask import Blueprint, Response, request

from service.observe.audit import AuditLog
from service.store.sessions import SESSION_SECONDS
from service.web import request_id
from service.web.page.frame import LOOK, LOOKS, Frame, go, own_place
from service.web.page.guard import Guard, cookie_of, is_encrypted
from service.web.token_file import Token

YEAR_SECONDS: Final = 366 * 86400
UNKNOWN: Final = "This token is not known here. A token begins with sbx_; whoever runs the service hands them out."
USED: Final = "This link has been used, or is more than ten minutes old. Ask for a new one, or paste a token."


class SigningIn:
    def __init__(self, guard: Guard, frame: Frame, audit: AuditLog | None) -> None:
        self._guard = guard
        self._frame = frame
        self._audit = audit

    def add_to(self, pages: Blueprint) -> None:
        pages.add_url_rule("/ui/sign-in", "sign_in_form", self.form)
        pages.add_url_rule("/ui/sign-in", "sign_in", self.sign_in, methods=["POST"])
        pages.add_url_rule("/ui/sign-out", "sign_out", self.sign_out, methods=["POST"])
        pages.add_url_rule("/ui/look", "look", self.look, methods=["POST"])

    def form(self) -> Response:
        if not self._guard.asks:
            return go("/ui")
        return self._shown("", 200)

    def _shown(self, wrong: str, status: int) -> Response:
        """A link that is only looked at, as by a program that checks mails, is not used up."""
        values = request.form if request.method == "POST" else request.args
        code = "" if wrong else values.get("code", "")
        return self._frame.page("sign_in.html", status, wrong=wrong, code=code, to=own_place(values.get("to", "")))

    def sign_in(self) -> Response:
        code, secret = request.form.get("code"), request.form.get("token", "").strip()
        token = self._guard.by_code(code) if code else self._guard.by_token(secret)
        if token is None:
            return self._shown(USED if code else UNKNOWN, 403)
        answer = go(own_place(request.form.get("to", "")))
        secure = is_encrypted(request.environ)
        answer.set_cookie(
            cookie_of(request.environ), self._guard.begin(token), max_age=SESSION_SECONDS, path="/", secure=secure,
            httponly=True, samesite="Strict",
        )  # fmt: skip
        self._tell("signed_in", token)
        return answer

    def sign_out(self) -> Response:
        cookie = cookie_of(request.environ)
        secret = request.cookies.get(cookie)
        visitor = self._guard.visitor(secret)
        answer = go("/ui/sign-in" if self._guard.asks else "/ui")
        answer.delete_cookie(cookie, path="/", httponly=True, samesite="Strict")
        if secret:
            self._guard.end(secret)
        if visitor is not None and visitor.name is not None:
            self._tell("signed_out", visitor.name)
        return answer

    def look(self) -> Response:
        """Light or dark whatever the system says, or as it says."""
        wanted = request.form.get("look", "")
        answer = go(own_place(request.form.get("back", "")))
        if wanted in LOOKS:
            answer.set_cookie(LOOK, wanted, max_age=YEAR_SECONDS, path="/ui", httponly=True, samesite="Strict")
        else:
            answer.delete_cookie(LOOK, path="/ui")
        return answer

    def _tell(self, did: str, who: Token | str) -> None:
        if self._audit is not None:
            environ = request.environ
            name = who if isinstance(who, str) else who.name
            facts = {"request_id": environ.get(request_id.KEY)}
            self._audit.tell(did, by=name, origin=environ.get("REMOTE_ADDR", ""), **facts)
