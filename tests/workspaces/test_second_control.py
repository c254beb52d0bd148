"""What the circusd of the workspaces leaves when it was killed, and who ends it."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.workspaces.second_control import SecondCircusd
from tests.servers import eventually


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


@pytest.fixture
def nginx(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process of that name, below a folder."""
    folder = tmp_path / request.param
    folder.mkdir(exist_ok=True)
    program = folder / "nginx"
    shutil.copy(shutil.which("sleep") or "", program)
    process = subprocess.Popen([str(program), "600"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize(("nginx", "is_ended"), [("run", True), ("another", False)], indirect=["nginx"])
def test_a_halt_ends_the_nginx_of_these_workspaces_and_no_other(
    run: Path, tmp_path: Path, nginx: "subprocess.Popen[bytes]", is_ended: bool
) -> None:
    (run / "nginx.pid").write_text(f"{nginx.pid}\n")  # as it stays when nginx is killed
    assert SecondCircusd(run, tmp_path / "w").halt() is is_ended
    if is_ended:
        eventually(lambda: nginx.poll() is not None)
    else:
        assert nginx.poll() is None
