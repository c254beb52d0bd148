"""A Redis by its URL."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from service.store.connection.cluster import ClusterWire
from service.store.connection.commands import Script, Scripts, Wire
from service.store.connection.one_server import ServerWire


def connect(url: str, scripts: Iterable[Script]) -> Wire:
    """A Redis by its URL: redis://, rediss://, unix://, or redis+cluster://host:port,host:port."""
    known = Scripts(scripts)
    if url.startswith("redis+cluster://"):
        parts = urlsplit(url.removeprefix("redis+cluster:"), scheme="redis")
        login, _, hosts = parts.netloc.rpartition("@")
        return ClusterWire(
            [f"redis://{login}@{host}" if login else f"redis://{host}" for host in hosts.split(",")], known
        )
    return ServerWire(url, known)
