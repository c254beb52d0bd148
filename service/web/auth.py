"""Who sends a request: its bearer token, looked up in the file of tokens. A changed file counts at once."""

import hmac
import logging
import re
from pathlib import Path
from typing import Final

from service.errors import InvalidToken
from service.web.problem import Problem
from service.web.token_file import WRITE, Token, hash_of, read

CALLER: Final = "sandbox.caller"  # in the environ of a request: the name of its token
SCOPE: Final = "sandbox.scope"  # and what that token allows
IS_KNOWN: Final = "sandbox.is_known"  # and whether it is still there: a long answer asks again
BEARER: Final = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
NONE_KNOWN: Final = "no tokens are known, because their file cannot be used (the log says why)"
STILL_IN_FORCE: Final = "the tokens of before, if there were any, stay in force: %s"
_log = logging.getLogger(__name__)


class Tokens:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._state: tuple[int, ...] | None = None
        self._known: list[Token] | None = None

    def token(self, authorization: str | None, scope: str) -> Token:
        """The token of a request. Raises a problem if it is missing, unknown, or its scope is too narrow."""
        sent = BEARER.fullmatch(authorization) if authorization else None
        if sent is None:
            raise _refused("send a token: Authorization: Bearer …", "")
        token = self._known_as(sent[1])
        if token is None:
            raise _refused("this token is not known here", ', error="invalid_token"')
        if scope == WRITE and token.scope != WRITE:
            challenge = 'Bearer realm="sandbox", error="insufficient_scope", scope="write"'
            raise Problem(403, "this token may only read", headers=[("WWW-Authenticate", challenge)])
        return token

    def check(self) -> None:
        """Raises as long as this process could not read the file even once: it would refuse everybody."""
        if self._now() is None:
            raise InvalidToken(NONE_KNOWN)

    def named(self, name: str) -> Token | None:
        return next((token for token in self._in_force() if token.name == name), None)

    def of_secret(self, secret: str) -> Token | None:
        return self._known_as(secret)

    def _known_as(self, secret: str) -> Token | None:
        sent = hash_of(secret)
        found = None
        for token in self._in_force():
            if hmac.compare_digest(token.hash, sent):
                found = token
        return found

    def _in_force(self) -> list[Token]:
        """Raises a problem while it is not known which there are: nobody's token is refused for that."""
        known = self._now()
        if known is None:
            raise Problem(503, NONE_KNOWN, headers=[("Retry-After", "1")])
        return known

    def _now(self) -> list[Token] | None:
        state = _state(self._path)
        if state != self._state:
            try:
                self._path.stat()  # read() takes a missing file for an empty one
                self._known = read(self._path)
                self._state = state
            except InvalidToken as error:
                _log.error(STILL_IN_FORCE, error)
                self._state = state
            except OSError as error:  # it may pass without a change of the file: try again
                _log.error(STILL_IN_FORCE, error, extra={"once": "tokens"})
        return self._known


def _refused(detail: str, challenge: str) -> Problem:
    return Problem(401, detail, headers=[("WWW-Authenticate", f'Bearer realm="sandbox"{challenge}')])


def _state(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
