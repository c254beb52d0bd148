"""From which address a request comes, when a proxy brings it: each proxy adds to X-Forwarded-For whom it had before it.

What a client has put there itself stands further left. So it is read from the right, and only as far as those who wrote
it are trusted: whoever may use the unix socket, and the proxies of a setting.
"""

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from service.web.request_id import Wsgi


class Proxies:
    """WSGI middleware: REMOTE_ADDR is the client's address for all that comes after, the access log too."""

    def __init__(self, application: Wsgi, trusted: Iterable[str]) -> None:
        """`trusted` are addresses and networks."""
        self._application = application
        self._trusted = [ip_network(network) for network in trusted]

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        forwarded = environ.get("HTTP_X_FORWARDED_FOR")
        if forwarded is not None:
            environ["REMOTE_ADDR"] = self._client(environ.get("REMOTE_ADDR", ""), forwarded)
        return self._application(environ, start_response)

    def _client(self, peer: str, forwarded: str) -> str:
        address = peer
        for told in reversed(forwarded.split(",")):
            before = _address(told.strip())
            if before is None or not self._trusts(address):
                break
            address = str(before)
        return address

    def _trusts(self, address: str) -> bool:
        if not address:
            return True  # the unix socket
        known = _address(address)
        return known is not None and any(known in network for network in self._trusted)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Without its zone: that may be any text, and means nothing to others."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
