"""The one place where settings become objects."""

from service import store as stores
from service import wire
from service.registry import Registry
from service.settings import Settings
from service.store import Store
from service.web.app import Web, create_app
from service.web.tokens import Tokens


def store(settings: Settings) -> Store:
    connected = wire.connect(settings.store_url, stores.SCRIPTS)
    return Store(connected, partitions=settings.partitions, retention_seconds=settings.retention_seconds)


def registry(settings: Settings) -> Registry:
    return Registry.load(settings.tasks)


def app(settings: Settings) -> Web:
    return create_app(
        store=store(settings),
        registry=registry(settings),
        queues=settings.queues,
        tokens=Tokens(settings.tokens) if settings.tokens else None,
        waiting_clients=-(-settings.waiting_clients // settings.web_workers),
    )
