"""A process beside circusd that sends what circusd does to StatsD and Graphite: events, and what its processes weigh.

It begins to listen when some processes have started already. They are counted when it first lists them. But if the
observer itself was started again, they were counted before.

It only listens and asks, so that circusd feels nothing of what goes wrong here, nor of a server that hangs. circus.ini
starts it if there is a StatsD or a Graphite.
"""

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import psutil
import zmq
from circus.client import CircusClient
from circus.exc import CallError

from service.errors import SandboxError
from service.observe import log_file
from service.observe.metrics import Metrics
from service.supervise.observer.graphite import Graphite
from service.supervise.observer.scales import Scales

WEIGH_SECONDS: Final = 5.0
TICK_MS: Final = 200
ANSWER_SECONDS: Final = 2.0
START_SECONDS: Final = 30.0  # a circusd that is younger starts the service now
EVENTS: Final = {
    "spawn": "spawned",
    "reap": "reaped",
    "reloaded": "reloaded",
    "reload_refused": "refused",
    "throttled": "throttled",
}

log = logging.getLogger("sandbox.observer")

Facts = Mapping[str, Any]
Told = Callable[[str, Facts], None]


class Observer:
    def __init__(
        self, *, events: str, control: str, metrics: Metrics, graphite: Graphite | None, refused: Told, release: str
    ) -> None:
        """`refused` is called for each reload that was refused, with the watcher and what circusd said about it."""
        self._events = events
        self._control = control
        self._metrics = metrics
        self._graphite = graphite
        self._refused = refused
        self._release = release
        self._scales = Scales()
        self._stopping = False
        self._weigh_at = 0.0
        self._seen: set[int] = set()
        self._listed: set[int] = set()
        self._count_listed = False
        self._starting = False

    def stop(self, *_: Any) -> None:
        self._stopping = True

    def heed_signals(self) -> None:
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, self.stop)

    def run(self) -> None:
        """Returns when it was stopped, or circusd is gone."""
        supervisor = os.getppid()
        context = zmq.Context()
        with context.socket(zmq.SUB) as channel:
            channel.setsockopt(zmq.SUBSCRIBE, b"watcher.")
            channel.connect(self._events)
            self._begin(supervisor)
            while not self._stopping and os.getppid() == supervisor:
                log_file.caretaker.look()
                if channel.poll(TICK_MS):
                    self._take(channel.recv_multipart())
                if self._metrics.wanted and time.monotonic() >= self._weigh_at and self._metrics.is_ready():
                    self._weigh_at = time.monotonic() + WEIGH_SECONDS
                    self._weigh()
        context.destroy(linger=0)

    def _begin(self, supervisor: int) -> None:
        self._count_listed = self._starting = _age(supervisor) < START_SECONDS
        if self._starting:
            self._mark("sandbox started", "started", self._release)

    def _take(self, message: list[bytes]) -> None:
        try:
            _, watcher, event = message[0].decode().split(".", 2)
            self._tell(watcher, event, json.loads(message[1]))
        except Exception as error:
            log.error("an event of circusd cannot be told: %r", message[:1], exc_info=error, extra={"once": "event"})

    def _tell(self, watcher: str, event: str, facts: Facts) -> None:
        if event not in EVENTS:
            return
        pid = facts.get("process_pid", 0)
        if event != "spawn" or pid not in self._seen:
            self._metrics.process_event(watcher, EVENTS[event])
        if pid and event == "spawn":
            self._seen.add(pid)
        elif event == "reap":
            self._seen.discard(pid)
        if event == "reload_refused":
            self._refused(watcher, facts)
        if event in ("reloaded", "reload_refused"):
            self._mark(f"{watcher} {EVENTS[event]}", EVENTS[event], str(facts.get("release", "")))

    def _mark(self, what: str, tag: str, release: str) -> None:
        if self._graphite is not None:
            words = (self._graphite, what, ["sandbox", tag], release)
            threading.Thread(target=_mark, args=words, name="graphite", daemon=True).start()

    def _weigh(self) -> None:
        try:
            leaders = self._leaders()
            self._count(leaders)
            self._metrics.weights(self._scales.weigh(leaders))
        except CallError as error:
            log.warning("circusd does not answer: %s", error, extra={"once": "circusd"})

    def _count(self, leaders: Mapping[str, list[int]]) -> None:
        """Counts the start of circusd, and the processes whose start it has not heard of."""
        if self._starting:
            self._metrics.process_event("circusd", "started")
            self._starting = False
        listed = {pid for pids in leaders.values() for pid in pids}
        self._seen -= self._listed - listed
        self._listed = listed
        for watcher, pids in leaders.items():
            for pid in set(pids) - self._seen:
                self._seen.add(pid)
                if self._count_listed:
                    self._metrics.process_event(watcher, "spawned")
        self._count_listed = True

    def _leaders(self) -> dict[str, list[int]]:
        client = CircusClient(endpoint=self._control, timeout=ANSWER_SECONDS)
        try:
            watchers = client.send_message("status").get("statuses", {})
            return {watcher: client.send_message("list", name=watcher).get("pids", []) for watcher in watchers}
        finally:
            client.stop()


def _age(pid: int) -> float:
    return time.time() - float(psutil.Process(pid).create_time())


def _mark(graphite: Graphite, what: str, tags: list[str], text: str) -> None:
    try:
        graphite.event(what, tags, text)
    except SandboxError as error:
        log.warning("%s; this event is not drawn: %s", error, what, extra={"once": "graphite"})
