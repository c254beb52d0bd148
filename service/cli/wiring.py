"""The one place where settings become objects.

A process imports only its own side: the web's modules would cost a runner 15 MB for nothing.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from service import __version__
from service.cli import task_modules
from service.errors import SandboxError, WrongRedis
from service.observe import metrics as reported
from service.observe.audit import AuditLog
from service.observe.metrics import Metrics
from service.observe.sentry import NO_ERRORS, Errors
from service.settings import WORKSPACES, Settings
from service.store import SCRIPTS, Layout, Store
from service.store.connection import connect
from service.tasks.declare import TaskType
from service.tasks.registry import Registry

if TYPE_CHECKING:
    from service.observe.logs import Lines
    from service.observe.statsd import Later
    from service.web.api.workspace_desk import Premises
    from service.web.app import Web
    from service.web.hosts import Hosts


def store(settings: Settings) -> Store:
    connected = connect(settings.store_url, SCRIPTS)
    layout = Layout(connected, name=settings.name, partitions=settings.partitions)
    return Store(
        connected,
        partitions=settings.partitions,
        retention_seconds=settings.retention_seconds,
        known_seconds=settings.stuck_seconds,
        layout=layout,
        served=settings.all_queues,
    )


def metrics(settings: Settings, later: "Later | None" = None) -> Metrics:
    return reported.connect(settings.statsd_host, settings.statsd_port, settings.statsd_prefix, later)


def registry(settings: Settings, begins: Callable[[str], None] = lambda _: None) -> Registry:
    """The types that this installation serves; `begins` is told the name of each module before it is loaded."""
    types = task_modules.placed(task_modules.load(settings.tasks, begins), settings.all_queues)
    task_modules.refuse_taken_types(types)
    if settings.workspace_git:
        for task_type in _workspace_types(settings):
            types.add(task_type)
    if settings.promote_clone:
        for task_type in _release_types(settings):
            types.add(task_type)
    task_modules.refuse_unserved(types, settings.all_queues)
    return types


def _workspace_types(settings: Settings) -> list[TaskType]:
    from service.cli import building

    return building.types(settings)


def _release_types(settings: Settings) -> list[TaskType]:
    from service.cli import releasing

    return releasing.types(settings)


def errors(settings: Settings, process: str, types: Iterable[TaskType] = ()) -> Errors:
    """Error reports to Sentry. Without a DSN, nothing of it is imported."""
    if not settings.sentry_dsn:
        return NO_ERRORS
    from service.observe.sentry import reporter

    return reporter.connect(
        settings.sentry_dsn,
        client=settings.sentry_client,
        release=settings.sentry_release or f"sandbox@{__version__}",
        environment=settings.sentry_environment,
        process=process,
        packages={task_type.handler.__module__.partition(".")[0] for task_type in types},
    )


def app(settings: Settings) -> "Web":
    from service.runner import lockfile
    from service.web.api.release_desk import Stages
    from service.web.app import create_app
    from service.web.auth import Tokens

    types = registry(settings)
    first, second = settings.promote_stages
    stages = Stages(
        settings.releases, settings.promote_branch, first, second, settings.promote_people, settings.workspace_hook
    )
    return create_app(
        store=store(settings),
        registry=types,
        errors=errors(settings, "web", types),
        queues=settings.all_queues,
        tokens=Tokens(settings.tokens) if settings.tokens else None,
        hosts=None if settings.tokens else _hosts(settings),
        proxies=settings.proxies,
        waiting_clients=-(-settings.waiting_clients // settings.web_workers),
        streams=-(-settings.streams // settings.web_workers),
        throttled=settings.sockets / "throttled",
        runners=partial(lockfile.living, _runners(settings)),
        metrics=metrics(settings, _after_what_is_ready()),
        audit=AuditLog(settings.logs, "web"),
        sentry_url=settings.sentry_url,
        premises=_premises(settings) if settings.workspace_git else None,
        stages=stages if settings.promote_clone else None,
    )


def _hosts(settings: Settings) -> "Hosts":
    """Which names lead to a unix socket, the proxy in front of it knows."""
    from service.web.hosts import Hosts

    return Hosts(settings.hosts, any_name=bool(settings.socket) and not settings.hosts)


def _premises(settings: Settings) -> "Premises":
    from service.cli import building
    from service.web.api.workspace_desk import Premises

    return Premises(
        folder=settings.workspaces,
        most=settings.workspace_max,
        most_building=settings.workspace_building,
        pythons=settings.workspace_pythons,
        code_runs_as=building.code_runs_as(settings),
        hook_secret=settings.workspace_hook,
        expire_days=settings.workspace_expire_days,
    )


def warn_of_workspaces(settings: Settings) -> None:
    """For one process of the service: what whoever starts it has to know, in the log and on the terminal."""
    if settings.workspace_git:
        from service.cli import building

        if user := building.code_runs_as(settings):
            logging.getLogger("sandbox").warning(building.NOT_ISOLATED, user)


def _runners(settings: Settings) -> Path:
    """The folder in which each runner keeps a locked file."""
    return settings.home / "runners"


def _after_what_is_ready() -> "Later | None":
    """In a worker: metrics of all clients that are ready at the same time go out together."""
    from gevent import monkey, spawn_raw

    return spawn_raw if monkey.is_module_patched("socket") else None


def refuse_wrong_redis(store: Store) -> None:
    """Now, if Redis answers. Without an answer, whoever works with it compares later."""
    try:
        store.judge()
    except WrongRedis:
        raise
    except SandboxError:
        pass


def run_runner(settings: Settings, lines: "Lines", *, builder: bool = False) -> int:
    """A runner of SANDBOX_QUEUES; or a builder, which serves queues of its own."""
    from service.builtin import bulk
    from service.cli.acts import Acts
    from service.runner.journal import Report
    from service.runner.process import Runner
    from service.runner.zygote import Zygote, refuse_replaced_sockets
    from service.supervise.reload import candidate, wish

    types = registry(settings)
    connected = store(settings)
    measures = metrics(settings)
    acts = Acts(connected, AuditLog(settings.logs, "runner"), measures)
    for task_type in bulk.types(retry=acts.retry, cancel=acts.cancel):
        types.add(task_type)
    refuse_wrong_redis(connected)
    want_processes = [each.name for each in types if each.process]
    refuse_replaced_sockets(want_processes)
    candidate.wait()
    reports = errors(settings, "runner", types)
    zygote = None
    if want_processes:
        from service.runner import forked

        zygote = Zygote(partial(forked.run, registry=types, errors=reports))  # before there is a thread
    queues = settings.builder_queues if builder else settings.queues
    if settings.workspace_git and WORKSPACES in queues:
        threading.Thread(target=_wake_workspaces, args=(settings,), name="wake-workspaces", daemon=True).start()
    watcher = "sandbox-builder" if builder else "sandbox-runner"
    runner = Runner(
        store=connected,
        registry=types,
        errors=reports,
        report=Report(lines, metrics=measures),
        folder=_runners(settings),
        queues=queues,
        all_queues=settings.all_queues,
        weights=queues.weights,
        threads=settings.builder_threads if builder else settings.threads,
        lease_seconds=settings.lease_seconds,
        grace_seconds=settings.grace_seconds,
        retention_seconds=settings.retention_seconds,
        wish_reload=partial(wish.tell, watcher, logging.getLogger("sandbox.runner")),
        metrics=measures,
        run=settings.sockets,
        release=os.getcwd(),  # the folder that its code was found in
        zygote=zygote,
    )
    return runner.run()


def _wake_workspaces(settings: Settings) -> None:
    from service.cli import building

    try:
        building.wake(settings)
    except Exception as error:  # a builder has other work, too; workspace.reconcile tries it again
        logging.getLogger("sandbox.runner").warning("the workspaces cannot be started: %s", error)


def run_observer(settings: Settings, control: str) -> int:
    from service.supervise.observer.events import Observer
    from service.supervise.observer.graphite import Graphite

    reports = errors(settings, "observer")

    def refused(watcher: str, facts: Mapping[str, object]) -> None:
        tags = {"watcher": watcher, "release": facts.get("release")}
        reports.capture_message(f"a reload of {watcher} was refused", tags=tags, extra=facts)

    observer = Observer(
        events=f"ipc://{settings.sockets / 'events.sock'}",
        control=control,
        metrics=metrics(settings),
        graphite=Graphite(settings.graphite_url) if settings.graphite_url else None,
        refused=refused,
        release=str(settings.release or ""),
    )
    observer.heed_signals()
    try:
        observer.run()
    finally:
        reports.flush()
    return 0
