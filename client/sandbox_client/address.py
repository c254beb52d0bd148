"""Where the service is, and with which token: from arguments, or else from SANDBOX_URL and SANDBOX_TOKEN."""

from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from sandbox_client.errors import WrongAddress

DEFAULT_URL: Final = "http://127.0.0.1:8000"
UNIX: Final = "unix:"


class Address(NamedTuple):
    base_url: str
    socket: str | None
    headers: Mapping[str, str]


def find(url: str | None, token: str | None, environ: Mapping[str, str]) -> Address:
    base_url, socket = _place(url or environ.get("SANDBOX_URL") or DEFAULT_URL)
    return Address(base_url, socket, _headers(token or environ.get("SANDBOX_TOKEN")))


def _place(url: str) -> tuple[str, str | None]:
    if url.startswith(UNIX):
        path = url.removeprefix(UNIX)
        if not path.startswith("/"):
            raise WrongAddress(f"SANDBOX_URL is {url!r}: a unix socket is named as unix:/path/of.sock")
        return "http://localhost", path
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        (parts.hostname or "").encode("idna")
        url.encode()
    except ValueError:  # also of a name with an empty or too long part, and of what is no text
        usable = False
    if not usable:
        raise WrongAddress(f"SANDBOX_URL is {url!r}: give http://host:port, https://host or unix:/path/of.sock")
    if parts.username is not None or parts.query or parts.fragment:
        raise WrongAddress("SANDBOX_URL may hold no user, query or fragment; the token goes into SANDBOX_TOKEN")
    return url, None


def _headers(token: str | None) -> dict[str, str]:
    if not token:
        return {}
    if not all("!" <= character <= "~" for character in token):
        raise WrongAddress("SANDBOX_TOKEN holds characters that no token has, a line's end perhaps")
    return {"Authorization": f"Bearer {token}"}
