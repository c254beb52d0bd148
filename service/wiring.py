"""The one place where settings become objects."""

import logging

from service import logs, store, wire
from service.registry import Registry
from service.report import Report
from service.runner import Runner
from service.settings import Settings
from service.store import Store

log = logging.getLogger("sandbox")


def make_store(settings: Settings) -> Store:
    return Store(
        wire.connect(settings.store_url, store.SCRIPTS),
        partitions=settings.partitions,
        retention_seconds=settings.retention_seconds,
    )


def make_registry(settings: Settings) -> Registry:
    return Registry.load(settings.tasks)


def run_runner(settings: Settings) -> int:
    lines = logs.configure("runner", settings.logs)
    runner = Runner(
        store=make_store(settings),
        registry=make_registry(settings),
        report=Report(lines),
        folder=settings.home / "runners",
        stacks=settings.logs / "runner-stacks.log",
        queues=settings.queues,
        threads=settings.threads,
        lease_seconds=settings.lease_seconds,
        grace_seconds=settings.grace_seconds,
        retention_seconds=settings.retention_seconds,
    )
    return runner.run()
