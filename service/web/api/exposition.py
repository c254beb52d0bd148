"""The present in Prometheus's text format. All of it is read from Redis, so each worker answers alike."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from service.store import AtWork, Backlog, Lot, tally
from service.tasks.schedule import Schedule

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[str, Mapping[str, str], float]  # what follows the metric's name; labels; value


def text(
    counted: Mapping[str, Sequence[int]],
    queues: Mapping[str, Backlog],
    at_work: Sequence[AtWork],
    limits: Mapping[str, int],
    paused_types: Collection[str],
    stuck: Sequence[Lot],
    schedules: Sequence[Schedule],
) -> str:
    """`stuck` are the lots of types that no runner knows."""
    lines = [
        *_lines(counted, queues, at_work, limits),
        *_held_back(paused_types, stuck),
        *_times_of_schedules(schedules),
    ]
    return "".join(line + "\n" for line in lines)


def _held_back(paused_types: Collection[str], stuck: Sequence[Lot]) -> Iterator[str]:
    """Of other types there is no line."""
    paused = [("", {"type": name}, 1) for name in sorted(paused_types)]
    yield from _metric("sandbox_type_paused", "gauge", "Types that are paused", paused)
    waiting = [("", {"type": lot.type, "queue": lot.queue}, lot.tasks) for lot in stuck]
    yield from _metric("sandbox_type_stuck", "gauge", "Tasks of types that no runner knows", waiting)


def _times_of_schedules(schedules: Sequence[Schedule]) -> Iterator[str]:
    samples = [
        ("", {"schedule": each.name, "became": became}, getattr(each, became))
        for each in schedules
        for became in ("fired", "skipped", "missed")
    ]
    yield from _metric("sandbox_schedule_times_total", "counter", "What became of the times of schedules", samples)


def _lines(
    counted: Mapping[str, Sequence[int]],
    queues: Mapping[str, Backlog],
    at_work: Sequence[AtWork],
    limits: Mapping[str, int],
) -> Iterator[str]:
    yield from _metric(
        "sandbox_attempts_total", "counter", "Attempts by their end, and cancelled tasks", _ends(counted)
    )
    for name, words in (("run", "How long attempts took"), ("wait", "How long tasks waited for their attempt")):
        yield from _metric(f"sandbox_{name}_seconds", "histogram", words, _times(counted, name))
    for field, unit, words in (
        ("depth", "", "Tasks that wait"),
        ("running", "", "Tasks that a runner holds"),
        ("scheduled", "", "Tasks that are due later"),
        ("oldest", "_seconds", "Since when the first one waits"),
        ("paused", "", "Whether it is paused"),
    ):
        measured = [("", {"queue": name}, getattr(each, field)) for name, each in sorted(queues.items())]
        yield from _metric(f"sandbox_queue_{field}{unit}", "gauge", words, measured)
    held_up = [("", {"limit": name}, tasks) for name, tasks in limits.items()]
    yield from _metric("sandbox_limit_waiting", "gauge", "Tasks that wait at a limit", held_up)
    sums = {
        "sandbox_runners": ("Runners at work", len(at_work)),
        "sandbox_lanes": ("Tasks that they can execute at once", sum(each.threads for each in at_work)),
        "sandbox_lanes_busy": ("Tasks that they execute", sum(len(each.executing) for each in at_work)),
        "sandbox_runners_memory_bytes": ("Their resident memory", sum(each.memory for each in at_work)),
    }
    for name, (words, value) in sums.items():
        yield from _metric(name, "gauge", words, [("", {}, value)])


def _metric(name: str, kind: str, words: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {words}."
    yield f"# TYPE {name} {kind}"
    for suffix, labels, value in samples:
        yield f"{name}{suffix}{_shown(labels)} {value:.15g}"


def _shown(labels: Mapping[str, str]) -> str:
    shown = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{shown}}}" if shown else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _labels(series: str) -> dict[str, str]:
    queue, _, task_type = series.partition("/")
    return {"queue": queue, "type": task_type or queue}


def _ends(counted: Mapping[str, Sequence[int]]) -> Iterator[Sample]:
    for series, numbers in sorted(counted.items()):
        for end, number in zip(tally.ENDS, numbers, strict=False):
            yield "", {**_labels(series), "end": end}, number


def _times(counted: Mapping[str, Sequence[int]], name: str) -> Iterator[Sample]:
    for series, numbers in sorted(counted.items()):
        labels, below = _labels(series), 0
        for bound, number in zip((*tally.BOUNDS, None), tally.histogram(numbers, name), strict=True):
            below += number
            yield "_bucket", {**labels, "le": "+Inf" if bound is None else f"{bound / 1_000_000:.6g}"}, below
        yield "_sum", labels, tally.total(numbers, name) / 1_000_000
        yield "_count", labels, below
