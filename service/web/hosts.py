"""Under which names the service may be called. It matters where no tokens are asked for.

A write that says from which page it comes has to come from this Host: a browser reaches a unix socket, too, through the
proxy in front of it. And a web page can give its own name the address of this host, and then counts as of the same
origin as the service: its scripts could create tasks, and read them. So a Host has to be an IP address, `localhost`, or
a name of a setting. Behind a proxy that is the proxy's business, unless the setting has names.
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from service.web.problem import Problem

READS: Final = ("GET", "HEAD", "OPTIONS")
USUAL_PORTS: Final = {"http": ":80", "https": ":443"}


class Hosts:
    def __init__(self, names: Iterable[str] = (), *, any_name: bool = False) -> None:
        """With `any_name`, only what pages of other sites write is refused."""
        self._names = {"localhost", *(name.lower() for name in names)}
        self._any_name = any_name
        self._is_ours = lru_cache(maxsize=64)(self._judge)  # clients call by the same few names

    def check(self, environ: dict[str, Any]) -> None:
        """Raises a problem if a web page of somebody else may have sent this. Without a Host it is of no page."""
        host = environ.get("HTTP_HOST", "").lower()
        if host and not self._any_name and not self._is_ours(host):
            raise Problem(421, "Host: this is no name of the service; use its IP address, or add it to SANDBOX_HOSTS")
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and environ["REQUEST_METHOD"] not in READS and not is_of(origin.lower(), host):
            raise Problem(403, "Origin: pages of other sites may not write here")

    def _judge(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name.rstrip(".") in self._names or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_of(origin: str, host: str) -> bool:
    """Does a page with this origin, in lower case, come from this host?"""
    scheme, _, place = origin.partition("://")
    usual = USUAL_PORTS.get(scheme, "")
    return place.removesuffix(usual) == host.removesuffix(usual) if place else False
