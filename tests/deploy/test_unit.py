"""The unit of systemd, which the hosts of these tests do not run: what systemd-analyze says of it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rollout import stage, templates
from tests.system.instance import ROOT

MOST_EXPOSED = 2.5


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """With programs that are there, because systemd-analyze looks for them."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed; `apt-get install systemd` does it")
    files = templates.files(stage.read(ROOT / "deploy", "production"), {})
    [text] = [file.content for file in files if file.path.endswith(".service")]
    file = tmp_path / "sandbox.service"
    file.write_text(
        text.replace("/srv/sandbox/current/.venv/bin/sandbox", "/bin/true").replace(
            "/srv/sandbox/current/.venv/bin/circusctl", "/bin/true"
        )
    )
    return file


def test_systemd_understands_the_unit(unit: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_unit_is_hardened(unit: Path) -> None:
    threshold = f"--threshold={int(MOST_EXPOSED * 10)}"
    words = ["systemd-analyze", "security", "--offline=true", threshold, unit]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0


def test_the_calls_that_a_take_over_needs_are_not_refused(unit: Path) -> None:
    refused = re.findall(r"^SystemCallFilter=~(.*)$", unit.read_text(), re.MULTILINE)[0].split()
    assert len(refused) >= 7
    words = ["systemd-analyze", "syscall-filter", *refused]
    calls = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert "kexec_load" in calls  # the groups are known
    assert not {"pidfd_getfd", "pidfd_open", "pidfd_send_signal", "kill", "timer_create"} & set(calls)


def test_the_folders_that_the_service_writes_can_be_written(unit: Path) -> None:
    [paths] = re.findall(r"^ReadWritePaths=(.*)$", unit.read_text(), re.MULTILINE)
    values = {**templates.ENVIRONMENT, "PIDFILE": "/run/sandbox/sandbox.pid"}
    for name in ("SANDBOX_HOME", "SANDBOX_LOGS", "SANDBOX_BIND", "SANDBOX_TOKENS", "PIDFILE"):
        place = Path(values[name].removeprefix("unix:"))
        assert any(place.is_relative_to(path) for path in paths.split()), name
