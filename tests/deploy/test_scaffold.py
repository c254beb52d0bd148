"""deploy/ for another project."""

import subprocess
from pathlib import Path

from tests.deploy.conftest import needs_hosts
from tests.deploy.project import FAB
from tests.system.instance import ROOT


def fab(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FAB, *words], cwd=folder, capture_output=True, text=True, check=False)


def test_another_project_gets_what_it_needs_and_what_is_there_is_left(tmp_path: Path) -> None:
    needs_hosts()
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "deploy.toml").write_text("keep = 3\n")

    done = fab(ROOT, "-r", "deploy", "init", str(tmp_path))

    assert done.returncode == 0, done.stderr
    assert f"left     {tmp_path}/deploy/deploy.toml" in done.stdout
    assert f"written  {tmp_path}/deploy/stages/production.toml" in done.stdout
    assert (tmp_path / "deploy" / "deploy.toml").read_text() == "keep = 3\n"
    shown = fab(tmp_path, "-r", "deploy", "--list").stdout
    assert " production " in shown and " deploy:install " in shown
    again = fab(ROOT, "-r", "deploy", "init", str(tmp_path)).stdout.splitlines()
    assert {line.split()[0] for line in again} == {"left"}


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    needs_hosts()
    done = fab(ROOT, "-r", "deploy", "init", str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (2, "") and "is no folder" in done.stderr
