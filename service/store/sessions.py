"""Sessions of people who have signed in on the page, and codes that sign in once.

Redis keeps only hashes of what opens them. A session names the token that it began with: whoever reads it sees whether
that token is still there. Both end by themselves.
"""

import hashlib
import secrets
from typing import Final

import msgspec

from service.store import keys
from service.store.connection import Wire

HOME: Final = 0  # the partition that every installation has
SESSION_SECONDS: Final = 12 * 3600
CODE_SECONDS: Final = 10 * 60


class Session(msgspec.Struct, frozen=True):
    """The name and the hash of its token."""

    token: str
    hash: str


_decode = msgspec.json.Decoder(Session).decode


class Sessions:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def begin(self, session: Session) -> str:
        """Returns the secret that opens it."""
        secret = secrets.token_urlsafe(32)
        self._keep(keys.session(_hash(secret)), msgspec.json.encode(session), SESSION_SECONDS)
        return secret

    def read(self, secret: str) -> Session | None:
        [text] = self._wire.call(HOME, ("GET", keys.session(_hash(secret))))
        return None if text is None else _decode(text)

    def end(self, secret: str) -> None:
        self._wire.call(HOME, ("DEL", keys.session(_hash(secret))))

    def make_code(self, session: Session) -> str:
        """A code by which somebody signs in once."""
        code = secrets.token_urlsafe(32)
        self._keep(keys.code(_hash(code)), msgspec.json.encode(session), CODE_SECONDS)
        return code

    def use_code(self, code: str) -> Session | None:
        """None if there is no such code, or not any more."""
        [text] = self._wire.call(HOME, ("GETDEL", keys.code(_hash(code))), once=True)
        try:
            return None if text is None else _decode(text)
        except msgspec.DecodeError:  # of a release that kept the name alone
            return None

    def _keep(self, key: str, text: bytes, seconds: int) -> None:
        self._wire.call(HOME, ("SET", key, text, "EX", seconds))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
