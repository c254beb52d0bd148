"""Loaded by a service under measurement as a module of task types: its runners count nothing for the history."""

from service import Context, task
from service.runner.counting import Counting
from service.store import Tally


def nothing(*_: object) -> None: ...


Tally.outcomes = nothing  # type: ignore[method-assign]
Counting.flush = nothing  # type: ignore[method-assign]


@task("forgetful")
def forgetful(context: Context) -> None: ...
