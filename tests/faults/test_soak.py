"""The short form of `make soak`, once on each kind of Redis."""

from pathlib import Path

import pytest

from tests.faults import soak


@pytest.mark.parametrize(("seed", "beside"), [(1, False), (2, True)])
def test_whatever_is_killed_the_ledger_adds_up(folder: Path, seed: int, beside: bool) -> None:
    balance = soak.run(folder, seconds=25, seed=seed, beside=beside, tell=print)
    print(balance.ledger.table())
    assert balance.problems == []
    assert len(balance.ledger.accepted) > 100 and len(balance.ledger.blows) > 5
