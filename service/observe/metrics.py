"""Every metric, and its name. docs/observability.md lists them, and a test compares.

All metrics of one request, or of one settled batch, go out together. The values of a timer share a line
(`name:1|ms:2|ms`): so a batch fits into a datagram or two, and StatsD counts each value.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol

from service.tasks import moments
from service.tasks.document import FAILED, QUEUED, SCHEDULED, SUCCEEDED, Task

if TYPE_CHECKING:
    from service.observe.statsd import Later, StatsD

METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
TIME: Final = "{}"  # stands for the time: no name has braces
_EVENTS: Final = {
    SUCCEEDED: "succeeded",
    FAILED: "failed",
    SCHEDULED: "retried",
    QUEUED: "returned",
}


class Numbers(Protocol):
    """A named tuple of numbers. Each field becomes a gauge of that name."""

    def _asdict(self) -> dict[str, Any]: ...


class Metrics:
    """Metrics that go nowhere, as without STATSD_HOST."""

    wanted = False
    prefix = ""

    def is_ready(self) -> bool:
        """Is StatsD's address known? Until it is, everything is lost."""
        return True

    def request(
        self, route: str, method: str, status: str, seconds: float, *, waited: bool, event: str, about: Sequence[Task]
    ) -> None: ...

    def outcomes(self, settled: Sequence[Task], entries: Sequence[str]) -> None: ...

    def changed(self, event: str, tasks: Sequence[Task]) -> None: ...

    def schedule(self, name: str, event: str, count: int) -> None: ...

    def backlog(self, queues: Mapping[str, Numbers]) -> None: ...

    def limits(self, waiting: Mapping[str, int]) -> None: ...

    def types(self, paused: Iterable[str], stuck: Mapping[str, int]) -> None: ...

    def weights(self, watchers: Mapping[str, Numbers]) -> None: ...

    def process_event(self, watcher: str, event: str) -> None: ...


class StatsDMetrics(Metrics):
    wanted = True

    def __init__(self, statsd: "StatsD") -> None:
        self._statsd = statsd
        self.prefix = statsd.prefix

    def is_ready(self) -> bool:
        return self._statsd.is_ready()

    def request(
        self, route: str, method: str, status: str, seconds: float, *, waited: bool, event: str, about: Sequence[Task]
    ) -> None:
        """`waited`: the client asked to wait for a task. `event` is what happened to the tasks in `about`."""
        lines = _of_request(self.prefix, route, method, status, waited).replace(TIME, _plain(seconds * 1000))
        for name, count in _counted((task, event) for task in about).items():
            lines += f"\n{self.prefix}.{name}:{count}|c"
        self._statsd.tell(lines)

    def outcomes(self, settled: Sequence[Task], entries: Sequence[str]) -> None:
        """Attempts that have ended. `entries` are the ids of their queue entries, empty where unknown."""
        running: dict[str, list[float]] = {}
        waiting: dict[str, list[float]] = {}
        for task, entry in zip(settled, entries, strict=True):
            if task.duration is None or task.started_at is None or task.status == QUEUED:
                continue
            name = _of_type(task.queue, task.type)
            running.setdefault(f"{name}.running", []).append(task.duration * 1000)
            if entry:
                waited_ms = _waited_ms(task.started_at, entry)
                waiting.setdefault(f"{name}.waiting", []).append(waited_ms)
                waiting.setdefault("tasks_overall.waiting", []).append(waited_ms)
        with self._statsd.pipeline() as told:
            events = ((task, _EVENTS[task.status]) for task in settled if task.status in _EVENTS)
            for name, count in _counted(events).items():
                told.incr(name, count)
            for timer, milliseconds in (running | waiting).items():
                told.timings(timer, [_plain(each) for each in milliseconds])

    def changed(self, event: str, tasks: Sequence[Task]) -> None:
        """What has been done to these: by an act on many tasks, by a handler, or beside what a request is about."""
        with self._statsd.pipeline() as told:
            for name, count in _counted((task, event) for task in tasks).items():
                told.incr(name, count)

    def schedule(self, name: str, event: str, count: int) -> None:
        self._statsd.incr(f"schedules.{clean(name)}.{event}", count)

    def backlog(self, queues: Mapping[str, Numbers]) -> None:
        self._gauges("queues", queues)

    def limits(self, waiting: Mapping[str, int]) -> None:
        """How many tasks wait at each limit."""
        with self._statsd.pipeline() as told:
            for name, tasks in waiting.items():
                told.gauge(f"limits.{clean(name)}.waiting", tasks)

    def types(self, paused: Iterable[str], stuck: Mapping[str, int]) -> None:
        """Those that are paused, and how many tasks wait of those that no runner knows. Nothing of any other type."""
        with self._statsd.pipeline() as told:
            for name in paused:
                told.gauge(f"types.{clean(name)}.paused", 1)
            for name, tasks in stuck.items():
                told.gauge(f"types.{clean(name)}.stuck", tasks)

    def weights(self, watchers: Mapping[str, Numbers]) -> None:
        self._gauges("processes", watchers)

    def process_event(self, watcher: str, event: str) -> None:
        self._statsd.incr(f"processes.{clean(watcher)}.{clean(event)}")

    def _gauges(self, kind: str, measured: Mapping[str, Numbers]) -> None:
        with self._statsd.pipeline() as told:
            for name, one in measured.items():
                for field, value in one._asdict().items():
                    told.gauge(f"{kind}.{clean(name)}.{field}", round(value, 3))


def _counted(events: Iterable[tuple[Task, str]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for task, event in events:
        name = f"{_of_type(task.queue, task.type)}.{event}"
        counts[name] = counts.get(name, 0) + 1
    return counts


@lru_cache(maxsize=1024)
def _of_request(prefix: str, route: str, method: str, status: str, waited: bool) -> str:
    """The lines of a request, complete but for the time: it is quicker to make them once."""
    name = f"{clean(route)}.{method if method in METHODS else 'other'}"
    timers = (f"web.waited.{name}",) if waited else (f"web.latency.{name}", "web.latency_overall")
    lines = [f"web.requests.{name}.{status}:1|c", *(f"{timer}:{TIME}|ms" for timer in timers)]
    return "\n".join(f"{prefix}.{line}" for line in lines)


@lru_cache(maxsize=1024)
def _of_type(queue: str, type: str) -> str:
    return f"tasks.{clean(queue)}.{clean(type)}"


def connect(host: str, port: int, prefix: str, later: "Later | None" = None) -> Metrics:
    """Metrics that go to StatsD; without a host, nowhere."""
    if not host:
        return Metrics()
    from service.observe.statsd import StatsD

    return StatsDMetrics(StatsD(host, port, prefix, later=later))


_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]+")


def clean(name: str) -> str:
    """One level of a metric's name. A dot would begin the next one; `:|@/` mean something to StatsD and Graphite."""
    return _UNSAFE.sub("_", name).strip("_") or "root"


def _waited_ms(started_at: str, entry: str) -> float:
    """An entry's id holds the time at which it was queued, by Redis's clock."""
    return max(0.0, moments.microseconds(started_at) / 1000 - int(entry.partition("-")[0]))


def _plain(milliseconds: float) -> str:
    """Three digits or more, and never an exponent. It is short, so that a batch fits into two datagrams."""
    decimals = 3 if milliseconds < 10 else 1 if milliseconds < 1000 else 0
    text = f"{milliseconds:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text
