"""The unit of systemd, which the hosts of these tests do not run: what systemd-analyze says of it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.system.instance import ROOT

MOST_EXPOSED = 4.0


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """With programs that are there, because systemd-analyze looks for them."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed; `apt-get install systemd` does it")
    text = (ROOT / "deploy" / "templates" / "unit").read_text()
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
