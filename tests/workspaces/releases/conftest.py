"""A ground a test, whose home is a folder of its own."""

from pathlib import Path

import pytest

from tests.workspaces.releases.ground import Ground


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SANDBOX_SECRET", "of the service")
    return Ground(tmp_path)
