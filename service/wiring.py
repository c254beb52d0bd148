"""The one place where settings become objects.

A process imports only its own side: the web's modules cost a runner 15 MB, and it never needs them.
"""

import os
from functools import partial
from typing import TYPE_CHECKING

from service import store as stores
from service import wire
from service.errors import SandboxError, SettingsError
from service.registry import Registry
from service.settings import Settings, texts
from service.store import Store

if TYPE_CHECKING:
    from service.web.app import Web


def store(settings: Settings) -> Store:
    connected = wire.connect(settings.store_url, stores.SCRIPTS)
    return Store(connected, partitions=settings.partitions, retention_seconds=settings.retention_seconds)


def registry(settings: Settings) -> Registry:
    try:
        return Registry.load(settings.tasks)
    except Exception as error:
        reason = str(error) if isinstance(error, SandboxError) else f"{type(error).__name__}: {error}"
        raise SettingsError(
            f"SANDBOX_TASKS is {','.join(settings.tasks)!r}, which cannot be loaded: {reason}"
        ) from error


def app(settings: Settings) -> "Web":
    from service.web.app import create_app
    from service.web.tokens import Tokens

    return create_app(
        store=store(settings),
        registry=registry(settings),
        queues=settings.queues,
        tokens=Tokens(settings.tokens) if settings.tokens else None,
        waiting_clients=-(-settings.waiting_clients // settings.web_workers),
        throttled=settings.sockets / "throttled",
    )


def run_runner(settings: Settings) -> int:
    from service import logs, rehearsal, trial
    from service.report import Report
    from service.runner import Runner

    lines = logs.configure("runner", settings.logs)
    types = registry(settings)
    trial.wait()
    runner = Runner(
        store=store(settings),
        registry=types,
        report=Report(lines),
        folder=settings.home / "runners",
        queues=settings.queues,
        threads=settings.threads,
        lease_seconds=settings.lease_seconds,
        grace_seconds=settings.grace_seconds,
        retention_seconds=settings.retention_seconds,
        rehearse=partial(rehearsal.types, {**os.environ, **texts(settings)}),
    )
    return runner.run()
