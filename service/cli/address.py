"""Where the service is, and with which token: SANDBOX_URL and SANDBOX_TOKEN say it, or else the service's settings."""

import contextlib
import http.client
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from service.errors import SandboxError

UNIX: Final = "unix:"
ALLOWED: Final = "http://host:port, https://host/path or unix:/path"


class WrongAddress(SandboxError):
    """SANDBOX_URL or SANDBOX_TOKEN cannot be used."""

    exit_code = 2


class Place(NamedTuple):
    """Where the service is; with `socket`, a unix socket, `netloc` is only a name."""

    netloc: str
    prefix: str = ""
    socket: str = ""
    tls: bool = False

    def __str__(self) -> str:
        return f"{UNIX}{self.socket}" if self.socket else f"http{'s' * self.tls}://{self.netloc}{self.prefix}"

    def connection(self, seconds: float) -> http.client.HTTPConnection:
        if self.socket:
            from service.supervise.start.announce import UnixConnection

            return UnixConnection(self.socket, seconds)
        kind = http.client.HTTPSConnection if self.tls else http.client.HTTPConnection
        return kind(self.netloc, timeout=seconds)


def place(environment: Mapping[str, str]) -> Place:
    if url := environment.get("SANDBOX_URL", "").strip():
        return _named(url)
    from service import settings

    read = settings.read(environment)
    if read.socket:
        return Place("localhost", socket=read.socket)
    return Place(urlsplit(read.page_url).netloc)


def _named(url: str) -> Place:
    if url.startswith(f"{UNIX}/"):
        return Place("localhost", socket=url.removeprefix(UNIX))
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        is_http = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        if is_http and not (parts.query or "@" in url) and _can_be_sent(parts.hostname or "", parts.path, url):
            return Place(parts.netloc, parts.path.rstrip("/"), tls=parts.scheme == "https")
    raise WrongAddress(f"SANDBOX_URL cannot be used; allowed is {ALLOWED}")


def _can_be_sent(host: str, path: str, url: str) -> bool:
    """Raises UnicodeError, a ValueError, if a part of the host's name is empty or too long."""
    return bool(host.encode("idna")) and path.isascii() and url.isprintable() and " " not in url


def token(environment: Mapping[str, str]) -> str:
    found = environment.get("SANDBOX_TOKEN", "").strip()
    if not all("!" <= character <= "~" for character in found):
        raise WrongAddress("SANDBOX_TOKEN holds characters that no token has")
    return found
