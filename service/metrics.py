"""What is reported to StatsD, and under which names; docs/observability.md lists them.

Everything that one request, or one settled batch of tasks, has to tell goes out together. A timer's
values share a line (`name:1|ms:2|ms`), so that a whole batch fits into a datagram or two and StatsD
still counts every one of them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from service import task as tasks
from service.task import Task

VALUES_A_LINE: Final = 64
METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_EVENTS: Final = {
    tasks.SUCCEEDED: "succeeded",
    tasks.FAILED: "failed",
    tasks.SCHEDULED: "retried",
    tasks.QUEUED: "returned",
}


class Backlog(NamedTuple):
    """A queue's tasks, and since how many seconds the one at its head has been waiting."""

    depth: int = 0
    running: int = 0
    scheduled: int = 0
    oldest: float = 0.0


class Weight(NamedTuple):
    """What a watcher's processes take together: CPU in percent of a core, resident bytes, open files."""

    number: int = 0
    cpu: float = 0.0
    memory: int = 0
    descriptors: int = 0


class Sender(Protocol):
    def send(self, lines: Iterable[str]) -> None: ...


class Metrics:
    """Nobody is told anything."""

    wanted = False

    def request(
        self, route: str, method: str, status: str, seconds: float, *, waited: bool, event: str, about: Sequence[Task]
    ) -> None: ...

    def outcomes(self, settled: Sequence[Task], entries: Sequence[str]) -> None: ...

    def backlog(self, queues: Mapping[str, Backlog]) -> None: ...

    def weights(self, watchers: Mapping[str, Weight]) -> None: ...

    def process_event(self, watcher: str, event: str) -> None: ...


class StatsDMetrics(Metrics):
    wanted = True

    def __init__(self, sender: Sender, prefix: str) -> None:
        self._send = sender.send
        self._prefix = ".".join(filter(None, map(clean, prefix.split("."))))

    def request(
        self, route: str, method: str, status: str, seconds: float, *, waited: bool, event: str, about: Sequence[Task]
    ) -> None:
        """`waited`: the client had asked to wait for a task. `event` is what happened to the tasks it is about."""
        web = f"{self._prefix}.web"
        name = f"{clean(route)}.{method if method in METHODS else 'other'}"
        time = f"{seconds * 1000:.3g}|ms"
        lines = [f"{web}.requests.{name}.{status}:1|c"]
        if waited:
            lines.append(f"{web}.waited.{name}:{time}")
        else:
            lines += (f"{web}.latency.{name}:{time}", f"{web}.latency_overall:{time}")
        if about:
            lines += self._counters((task, event) for task in about)
        self._send(lines)

    def outcomes(self, settled: Sequence[Task], entries: Sequence[str]) -> None:
        """Attempts that ended, with the ids of the queue entries by which they were found, where known."""
        running: dict[str, list[str]] = {}
        waiting: dict[str, list[str]] = {}
        for task, entry in zip(settled, entries, strict=True):
            if task.duration is None or task.started_at is None or task.status == tasks.QUEUED:
                continue
            name = self._of_task(task)
            running.setdefault(f"{name}.running", []).append(f"{task.duration * 1000:.3g}|ms")
            if entry:
                waited = f"{_waited_ms(task.started_at, entry):.3g}|ms"
                waiting.setdefault(f"{name}.waiting", []).append(waited)
                waiting.setdefault(f"{self._prefix}.tasks_overall.waiting", []).append(waited)
        events = ((task, _EVENTS[task.status]) for task in settled if task.status in _EVENTS)
        self._send((*self._counters(events), *_timers(running), *_timers(waiting)))

    def backlog(self, queues: Mapping[str, Backlog]) -> None:
        self._gauges("queues", queues)

    def weights(self, watchers: Mapping[str, Weight]) -> None:
        self._gauges("processes", watchers)

    def process_event(self, watcher: str, event: str) -> None:
        self._send([f"{self._prefix}.processes.{clean(watcher)}.{clean(event)}:1|c"])

    def _gauges(self, kind: str, measured: Mapping[str, Backlog | Weight]) -> None:
        self._send(
            f"{self._prefix}.{kind}.{clean(name)}.{field}:{value:.12g}|g"
            for name, one in measured.items()
            for field, value in one._asdict().items()
        )

    def _counters(self, events: Iterable[tuple[Task, str]]) -> Iterator[str]:
        counts: dict[str, int] = {}
        for task, event in events:
            name = f"{self._of_task(task)}.{event}"
            counts[name] = counts.get(name, 0) + 1
        return (f"{name}:{count}|c" for name, count in counts.items())

    def _of_task(self, task: Task) -> str:
        return f"{self._prefix}.tasks.{clean(task.queue)}.{clean(task.type)}"


def connect(host: str, port: int, prefix: str) -> Metrics:
    """Reports to a StatsD; to nobody, if no host is named."""
    if not host:
        return Metrics()
    from service.statsd import StatsD

    return StatsDMetrics(StatsD(host, port), prefix)


_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]+")


@lru_cache(maxsize=1024)
def clean(name: str) -> str:
    """One level of a metric's name: a dot begins the next one, and `:|@/` mean something to StatsD and Graphite."""
    return _UNSAFE.sub("_", name).strip("_") or "root"


def _waited_ms(started_at: str, entry: str) -> float:
    """The entry's id holds when it was queued, by Redis's clock."""
    return max(0.0, tasks.microseconds(started_at) / 1000 - int(entry.partition("-")[0]))


def _timers(values: Mapping[str, list[str]]) -> Iterator[str]:
    for name, texts in values.items():
        for begin in range(0, len(texts), VALUES_A_LINE):
            yield f"{name}:{':'.join(texts[begin : begin + VALUES_A_LINE])}"
