"""What is put together for a process, and what must not keep it from its work."""

import logging
import subprocess
from pathlib import Path
from typing import Any

import pytest
import zmq

from service import settings
from service.cli import building, wiring


@pytest.mark.parametrize("error", [zmq.ZMQError(), subprocess.CalledProcessError(1, "python")])
def test_workspaces_that_cannot_be_started_keep_no_builder_from_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fails(_: Any) -> None:
        raise error

    monkeypatch.setattr(building, "wake", fails)
    with caplog.at_level(logging.WARNING):
        wiring._wake_workspaces(settings.read({"SANDBOX_HOME": str(tmp_path)}))
    assert "the workspaces cannot be started" in caplog.text
