"""What a module of task types imports: `from service import …`."""

import subprocess
import sys
from pathlib import Path

import pytest

import service
from service import errors
from service.tasks import context, declare

NAMES = {
    "Cancelled": errors.Cancelled,
    "Context": context.Context,
    "Reject": errors.Reject,
    "Retry": errors.Retry,
    "TimedOut": errors.TimedOut,
    "task": declare.task,
}

USED_WELL = """
from service import Cancelled, Context, Reject, Retry, TimedOut, task
from service.testing import run


@task("build")
def build(context: Context, month: str) -> int:
    context.progress(0.5, month)
    if context.cancelled:
        raise Reject("too late")
    try:
        raise Retry("later", after=10.0)
    except (Cancelled, TimedOut):
        return context.attempt


built: int = build(Context.__new__(Context), "May")
outcome = run(build, month="May", attempt=2)
message: str = outcome.error.message if outcome.error else outcome.status
"""


def test_each_name_is_the_real_one_and_there_is_no_other() -> None:
    assert {name: getattr(service, name) for name in service.__all__} == NAMES
    assert set(NAMES) <= set(dir(service))
    with pytest.raises(AttributeError, match="module 'service' has no attribute 'Store'"):
        _ = service.Store  # type: ignore[attr-defined]


def test_to_import_service_loads_nothing_else() -> None:
    program = (
        "import importlib, sys, typing; before = {*sys.modules}; import service; print(*sys.modules.keys() - before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["service"]


def test_type_checkers_know_the_names(tmp_path: Path) -> None:
    assert checked(tmp_path, USED_WELL) == []
    used_badly = USED_WELL.replace("after=10.0", 'after="ten"').replace("context.cancelled", "context.canceled")
    wrong_name, wrong_type = checked(tmp_path, used_badly)
    assert '"Context" has no attribute "canceled"' in wrong_name
    assert 'expected "float | None"' in wrong_type


def checked(folder: Path, text: str) -> list[str]:
    """What mypy finds wrong."""
    (folder / "tasks.py").write_text(text)
    words = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context", "tasks.py"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False).stdout.splitlines()
