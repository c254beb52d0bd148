"""A rehearsal ends as it must, whatever the code that it loads does."""

import os
import sys
from pathlib import Path

import psutil
import pytest

from service import settings
from service.errors import ReleaseBroken
from service.supervise.reload.release import Release
from service.supervise.start import rehearsal
from tests.servers import eventually

A_TYPE = """
from service import Context, task

@task("mine")
def mine(context: Context) -> None: ...
"""


def checked(folder: Path, module: str, patience_seconds: float = 30, **words: Path) -> list[str]:
    """Returns what it warns of, of a module of these lines."""
    (folder / "rehearsed.py").write_text(module)
    read = settings.read({"SANDBOX_TASKS": "rehearsed", "SANDBOX_HOME": str(folder / "var")})
    release = Release(folder, Path(sys.executable), folder)
    environment = release.environment(
        {**os.environ, **settings.texts(read), "PYTHONPATH": str(Path.cwd())}, str(folder)
    )
    *warnings, last_word = rehearsal.check(environment, patience_seconds=patience_seconds, folder=folder, **words)
    assert last_word.startswith("all is well: ")
    return warnings


def test_a_slow_module_has_the_time_of_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "LEAST_SECONDS", 0.1)
    assert checked(tmp_path, "import time; time.sleep(0.5)\nfrom service.builtin.demo import *") == []
    slow = "import sys, time; print('asks', file=sys.stderr); time.sleep(600)"
    with pytest.raises(ReleaseBroken, match=r"^rehearsed did not load within 5 s; it printed last: asks$"):
        checked(tmp_path, slow, patience_seconds=5)


@pytest.mark.parametrize(
    ("ends", "how"),
    [
        ("os._exit(4)", "exit code 4"),
        ("os._exit(1)", "exit code 1"),
        ("os._exit(0)", "exit code 0"),
        ("os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("os.kill(os.getpid(), 36)", "killed by signal 36"),
    ],
)
def test_a_module_that_ends_the_process_is_named_with_what_it_printed(tmp_path: Path, ends: str, how: str) -> None:
    with pytest.raises(ReleaseBroken) as refused:
        checked(tmp_path, f"import os, sys; print('one\\ntwo', file=sys.stderr); {ends}")
    assert str(refused.value) == f"rehearsed ended the process that loaded it: {how}; it printed last: one | two"


def test_what_its_modules_start_ends_with_it(tmp_path: Path) -> None:
    start = "import subprocess; pid = subprocess.Popen(['sleep', '600']).pid; open('pid', 'w').write(str(pid))"
    checked(tmp_path, start)
    pid = int((tmp_path / "pid").read_text())
    eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_a_python_that_is_gone_is_a_broken_release(tmp_path: Path) -> None:
    with pytest.raises(ReleaseBroken, match=r"cannot be loaded: .* No such file"):
        checked(tmp_path, "", python=tmp_path / "gone")


def test_what_it_warns_of_is_told_and_what_its_modules_print_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDBOX_TASK", "mine")
    warning = "sandbox: SANDBOX_TASK is set, but is no setting; SANDBOX_TASKS is one."
    assert checked(tmp_path, f"import sys; print('mine', file=sys.stderr)\n{A_TYPE}") == [warning]
    with pytest.raises(ReleaseBroken, match=r"rehearsed.py, line 1\)\n" + warning):
        checked(tmp_path, "import nowhere")
