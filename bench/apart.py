"""What an attempt costs that has a process of its own: forked, followed and buried, against the same in its runner.

The zygote is forked by a fresh process that has loaded what a runner loads.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Final

from bench.rounds import Plan
from bench.table import MILLISECONDS, Row

ATTEMPTS: Final = 300
WARM: Final = 20


def measure(plan: Plan) -> Iterator[Row]:
    samples = [_sample(plan.size(ATTEMPTS)) for _ in range(plan.rounds)]
    yield Row("an attempt in a process of its own, median", MILLISECONDS, [apart for apart, _ in samples], bar=10.0)
    yield Row("the same attempt in its runner, median", MILLISECONDS, [inside for _, inside in samples])


def _sample(attempts: int) -> tuple[float, float]:
    words = [sys.executable, "-m", "bench.apart", str(attempts)]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    return float(told[0]), float(told[1])


def main(attempts: int) -> None:
    from service import Context as Given
    from service import task
    from service.cli import wiring  # noqa: F401 - as in a runner
    from service.observe.sentry import NO_ERRORS
    from service.runner import apart, attempt, forked, process, programs  # noqa: F401
    from service.runner.window import Window
    from service.runner.zygote import Zygote
    from service.tasks.context import Context
    from service.tasks.declare import marked_type
    from service.tasks.document import RUNNING, Task
    from service.tasks.registry import Registry

    @task("no-op", process=True)
    def no_op(context: Given) -> None: ...

    task_type = marked_type(no_op)
    assert task_type is not None
    zygote = Zygote(partial(forked.run, registry=Registry([task_type]), errors=NO_ERRORS))
    one = Task(
        uid="0" * 64, type="no-op", queue="default", status=RUNNING, created_at="2026-01-01T00:00:00Z", attempt=1
    )

    def in_process() -> None:
        apart.run(zygote, task_type, Context(one, programs.run), one, apart.Leash(), NO_ERRORS)

    def in_runner() -> None:
        attempt.run(task_type, Context(one, programs.run), one, Window())

    for run in (in_process, in_runner):
        print(_median_ms(run, attempts))
    zygote.end()


def _median_ms(run: Callable[[], None], attempts: int) -> float:
    taken = []
    for _ in range(attempts + WARM):
        begun = time.perf_counter()
        run()
        taken.append((time.perf_counter() - begun) * 1000)
    return median(taken[WARM:])


if __name__ == "__main__":
    main(int(sys.argv[1]))
