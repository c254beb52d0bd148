"""Who looks at the page, and what they may do.

People sign in with a token. A cookie then holds the secret of a session, which ends with the token. Where the service
asks for no tokens, the page is open, too.

A form has to come from the page itself: browsers say so in Sec-Fetch-Site, which they leave out on plain HTTP, or in
Origin. What says neither is of no browser, or of a very old one: with the cookie it is refused.
"""

from typing import Any, Final, NamedTuple

from service.store import Session, Sessions
from service.web.auth import Tokens
from service.web.hosts import is_of
from service.web.problem import Problem
from service.web.token_file import WRITE, Token

OWN: Final = ("same-origin", "none")  # none: no page has sent it, but the person


class Visitor(NamedTuple):
    """Somebody who may read, and perhaps write."""

    name: str | None  # of the token; None where no tokens are asked for
    may_write: bool
    workspace: str | None = None  # the only thing that this visitor may see


def cookie_of(environ: dict[str, Any]) -> str:
    """The name of the session's cookie. A browser sends its cookies to all ports of a host: each has its own."""
    port = environ.get("HTTP_HOST", "").rpartition(":")[2]
    return f"sandbox_session_{port}" if port.isascii() and port.isdecimal() else "sandbox_session"


OPEN: Final = Visitor(None, may_write=True)


class Guard:
    def __init__(self, tokens: Tokens | None, sessions: Sessions) -> None:
        self._tokens = tokens
        self._sessions = sessions

    @property
    def asks(self) -> bool:
        """Do people have to sign in?"""
        return self._tokens is not None

    def visitor(self, secret: str | None) -> Visitor | None:
        """Whose session this secret opens; None for nobody's."""
        if self._tokens is None:
            return OPEN
        token = self._token_of(self._sessions.read(secret) if secret else None)
        return Visitor(token.name, token.scope == WRITE) if token else None

    def by_token(self, secret: str) -> Token | None:
        return self._tokens.of_secret(secret) if self._tokens else None

    def by_code(self, code: str) -> Token | None:
        """The code is of no use afterwards."""
        return self._token_of(self._sessions.use_code(code)) if self._tokens else None

    def _token_of(self, session: Session | None) -> Token | None:
        """None where that token has gone, though another one has its name now."""
        token = self._tokens.named(session.token) if self._tokens and session else None
        return token if token and session and token.hash == session.hash else None

    def begin(self, token: Token) -> str:
        """The secret for the cookie."""
        return self._sessions.begin(Session(token.name, token.hash))

    def end(self, secret: str) -> None:
        self._sessions.end(secret)


def refuse_other_sites(environ: dict[str, Any], has_cookie: bool) -> None:
    """Raises a problem if another site may have sent this form."""
    site, origin = environ.get("HTTP_SEC_FETCH_SITE"), environ.get("HTTP_ORIGIN")
    if site is not None:
        is_own = site.lower() in OWN
    elif origin is not None:
        is_own = is_of(origin.lower(), environ.get("HTTP_HOST", "").lower())
    else:
        is_own = not has_cookie
    if not is_own:
        raise Problem(403, "this form was not sent by the service's own page; open the page, and send it from there")


def is_encrypted(environ: dict[str, Any]) -> bool:
    """Does the browser use https? A proxy in front says so, or else the form's Origin."""
    origin: str = environ.get("HTTP_ORIGIN", "")
    return environ["wsgi.url_scheme"] == "https" or origin.startswith("https://")
