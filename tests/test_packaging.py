"""What a newcomer does: `make run` in a fresh copy, or an installation from the sdist or the wheel."""

import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service import __version__
from tests.servers import eventually
from tests.system.conftest import make_instance  # noqa: F401 - a fixture
from tests.system.instance import ROOT, Instance

NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", "var", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis"
)
QUIET_PIP = ("install", "--quiet", "--disable-pip-version-check")


def run(*words: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, timeout=300, check=False
    )


def copy(target: Path) -> Path:
    return Path(shutil.copytree(ROOT, target, ignore=NOT_COPIED, dirs_exist_ok=True))


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    source = copy(tmp_path_factory.mktemp("source"))
    built = run(sys.executable, "-m", "build", "--outdir", "dist", cwd=source)
    assert built.returncode == 0, built.stderr
    yield source / "dist"
    shutil.rmtree(source)


def files(*folders: str) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def test_the_wheel_carries_all_that_runs(dist: Path) -> None:
    [wheel] = dist.glob(f"sandbox-{__version__}-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert files("service") <= names
    assert {f"service/_conf/{name}" for name in files("conf") | {"circus.ini"}} <= names
    assert not [name for name in names if name.startswith("tests")]


def test_the_sdist_carries_all_that_is_needed_to_work_on_it(dist: Path) -> None:
    with tarfile.open(dist / f"sandbox-{__version__}.tar.gz") as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    tops = {"circus.ini", "LICENSE", "Makefile", "MANIFEST.in", "pyproject.toml", "requirements.txt", "README.md"}
    assert files("service", "conf", "tests", "docs") | tops | {"requirements-test.txt", ".ci/run"} <= names


@pytest.mark.parametrize("pattern", ["*.whl", "*.tar.gz"])
def test_a_task_runs_with_what_was_installed(
    dist: Path,
    pattern: str,
    tmp_path: Path,
    make_instance: Callable[..., Instance],  # noqa: F811
) -> None:
    [built] = dist.glob(pattern)
    programs = tmp_path / "venv" / "bin"
    assert run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path).returncode == 0
    assert run(programs / "pip", *QUIET_PIP, "-r", ROOT / "requirements.txt", cwd=tmp_path).returncode == 0
    installed = run(programs / "pip", *QUIET_PIP, "--no-deps", built, cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr
    checked = run(programs / "pip", "check", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout

    instance = make_instance()
    del instance.environment["PYTHONPATH"]
    path = instance.run(str(programs / "sandbox"), "path").stdout.strip()
    assert path.startswith(str(tmp_path / "venv"))
    instance.started(str(programs / "sandbox"), "run")
    uid = instance.create("echo", message="installed")
    eventually(lambda: instance.succeeded(uid))
    assert instance.task(uid)["result"] == "installed"
    assert instance.stop() == 0
    instance.is_gone()


def test_make_run_sets_everything_up_and_the_second_one_is_quick(
    make_instance: Callable[..., Instance],  # noqa: F811
) -> None:
    instance = make_instance()
    copy(instance.home.parent)
    del instance.environment["PYTHONPATH"]
    instance.start("make", "run")
    eventually(instance.is_ready, 180, 0.1)
    uid = instance.create("echo", message="kept")
    eventually(lambda: instance.succeeded(uid))
    instance.interrupt()
    instance.wait()
    instance.is_gone()
    assert "***" not in instance.output

    began = time.monotonic()
    instance.started("make", "run")
    assert time.monotonic() - began < 5
    assert instance.task(uid)["result"] == "kept"
    second = instance.run("make", "run")
    assert second.returncode != 0
    assert "another sandbox (process" in second.stderr
    instance.interrupt()
    instance.wait()
    instance.is_gone()


@pytest.mark.parametrize("target", ["run", "test"])
def test_make_names_the_package_that_is_missing(target: str, tmp_path: Path) -> None:
    source = copy(tmp_path / "source")
    (tmp_path / "ensurepip.py").write_text("raise ImportError")
    refused = run("make", target, cwd=source, PYTHONPATH=str(tmp_path))
    assert refused.returncode != 0
    assert "apt-get install python3-venv" in refused.stderr
    assert not (source / ".venv").exists()


@pytest.mark.parametrize(
    ("python", "said"), [("false", "3.11 or newer"), ("no-python", "apt-get install python3 python3-venv")]
)
def test_make_names_the_python_that_it_needs(python: str, said: str, tmp_path: Path) -> None:
    refused = run("make", "run", f"PYTHON={python}", cwd=copy(tmp_path / "source"))
    assert refused.returncode != 0
    assert said in refused.stderr
