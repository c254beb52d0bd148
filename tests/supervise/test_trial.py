"""A release on trial, as circusd judges it."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from service.supervise.reload import candidate, gentle
from service.supervise.reload.trial import THREAD, Trial
from tests.servers import eventually

HOLDS_THE_INTERPRETER = """
import re
from service.supervise.reload import candidate
candidate.begin()
print("begun", flush=True)
re.match("(a+)+$", "a" * 64 + "b")
"""


def test_it_is_accepted_though_linux_takes_its_time_with_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with many runners: ten wishes a second are taken."""
    wishes: list[int] = []

    def weigh(_: int, nice: int) -> bool:
        wishes.append(nice)
        return nice == gentle.LOW or len(wishes) > 20

    monkeypatch.setattr(gentle, "weigh", weigh)
    trial = Trial(Mock(), tmp_path, 10.0)
    trial.add(Mock(pid=4711))
    next(tmp_path.iterdir()).joinpath(f"{candidate.READY}.4711.1").touch()
    assert asyncio.run(trial.verdict(lambda: False)) is None
    assert gentle.USUAL not in wishes
    asyncio.run(trial.hurry())
    assert wishes[-1] == gentle.USUAL


def test_those_that_hold_the_interpreter_are_asked_one_after_the_other_until_one_has_answered(tmp_path: Path) -> None:
    trial = Trial(Mock(), tmp_path, 60.0)
    [held] = tmp_path.iterdir()
    with (held / candidate.OUTPUT).open("w") as output:
        words = [sys.executable, "-c", HOLDS_THE_INTERPRETER]
        environment = {**os.environ, **trial.environment}
        both = [subprocess.Popen(words, env=environment, stdout=output, process_group=0) for _ in range(2)]
    try:
        eventually(lambda: (held / candidate.OUTPUT).read_text().count("begun") == 2, 60)
        asyncio.run(trial._ask_where())
        assert (held / candidate.OUTPUT).read_text().count(THREAD) == 2  # both threads of one of them
        *_, module, match = trial.output.splitlines()
        assert module.endswith(" in <module>") and match.endswith(" in match")
    finally:
        for process in both:
            process.kill()
            process.wait()


def test_of_what_is_printed_without_an_end_only_the_end_is_read(tmp_path: Path) -> None:
    trial = Trial(Mock(), tmp_path, 60.0)
    [held] = tmp_path.iterdir()
    with (held / candidate.OUTPUT).open("wb") as output:
        output.seek(2**40)  # there is a hole before it
        output.write(b"\nthe last line\n")
    assert trial.output.endswith("\nthe last line")
