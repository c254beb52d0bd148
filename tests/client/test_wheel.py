"""What a user does: the wheel is made and installed by pip alone, and a first program runs."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import service
from sandbox_client import __version__
from tests.client.test_page import examples
from tests.system.instance import ROOT

NOT_COPIED = shutil.ignore_patterns("*.egg-info", "build", "__pycache__")

PROGRAM = """
import asyncio
from sandbox_client import AsyncClient, Client

with Client() as sandbox:
    print(sandbox.create("echo", message="installed").wait(timeout=60).result)

async def main():
    async with AsyncClient() as sandbox:
        task = await sandbox.create("echo", message="and async")
        print((await task.wait(timeout=60)).result)

asyncio.run(main())
"""


def test_the_lines_of_the_page_install_it_into_an_empty_virtualenv(tmp_path: Path, url: str) -> None:
    shutil.copytree(ROOT / "client", tmp_path / "client", ignore=NOT_COPIED)
    programs = tmp_path / "venv" / "bin"
    path = f"{programs}:{os.environ['PATH']}"

    def run(*words: str | Path) -> str:
        variables = {**os.environ, "PATH": path, "SANDBOX_URL": url}
        done = subprocess.run(words, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(sys.executable, "-m", "venv", "venv")
    [lines] = examples("sh")
    run("sh", "-ec", lines)

    [wheel] = tmp_path.glob("*.whl")
    files = {name for name in zipfile.ZipFile(wheel).namelist() if "dist-info" not in name}
    sources = {f"sandbox_client/{path.name}" for path in (ROOT / "client" / "sandbox_client").glob("*.py")}
    assert files == sources | {"sandbox_client/py.typed"}
    assert run("python", "-W", "error", "-c", PROGRAM) == "installed\nand async\n"
    installed = {line.partition("==")[0] for line in run("pip", "list", "--format=freeze").lower().split()}
    assert "httpx2" in installed
    assert not {"flask", "redis", "circus", "sandbox"} & installed


def test_its_version_is_that_of_the_service() -> None:
    assert service.__version__ == __version__
