"""A release on trial, as circusd judges it."""

import asyncio
from pathlib import Path
from unittest.mock import Mock

import pytest

from service.supervise.reload import candidate, gentle
from service.supervise.reload.trial import Trial


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
