"""docs/install.md, tried as it says: every command of the page, in order, on a host that has nothing yet."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import free_port
from tests.test_packaging import ROOT, copy

PAGE = ROOT / "docs" / "install.md"
UNIT = ROOT / "docs" / "operations.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)

UNTIL_READY = """
until curl -sf {url}/health/ready; do kill -0 $service; sleep 0.1; done
"""
# What a person does in another shell, or with Ctrl-C.
STARTED = "sandbox run > {folder}/run.out 2>&1 & service=$!" + UNTIL_READY
STOPPED = "\nkill $service; wait $service\n"
SEEN = "until curl -s {url}/tasks | grep '{greeting}'; do kill -0 $service; sleep 0.1; done\n"
RELOAD = "\ncircusctl reload\n"
RELOADED = (
    "\n circusctl reload\n"
    "curl -s {url}/tasks -H 'Content-Type: application/json'"
    """ -d '{{"type": "shop.greet", "args": {{"name": "Bob"}}}}'\n"""
) + SEEN


@pytest.fixture
def folder(folder: Path) -> Iterator[Path]:
    for name in ("home", "opt/sandbox", "var/lib"):
        (folder / name).mkdir(parents=True)
    copy(folder / "clone")
    yield folder
    shutil.rmtree(folder)


def script(folder: Path) -> str:
    """The commands of the page; the service runs in the background, and is stopped before it is uninstalled."""
    page, port = PAGE.read_text(), free_port()
    before, after = page.split("## Uninstall")
    url = f"http://127.0.0.1:{port}"
    commands = "\n".join([*BLOCK.findall(before), STOPPED, *BLOCK.findall(after)])
    commands = commands.replace("8000", str(port)).replace("/var/lib", f"{folder}/var/lib")
    commands = commands.replace("/opt/sandbox", f"{folder}/opt/sandbox")
    commands = re.sub(r"^sandbox run$", STARTED.format(folder=folder, url=url), commands, flags=re.MULTILINE)
    commands = commands.replace(f"curl -s {url}/tasks\n", SEEN.format(url=url, greeting="Hello, Ada"))
    upgrade, rollback = (
        RELOADED.format(url=url, greeting=greeting) for greeting in ("Good morning, Bob", "Hello, Bob")
    )
    return commands.replace(RELOAD, upgrade, 1).replace(RELOAD, rollback)


def test_the_page_leads_from_an_empty_host_to_an_empty_host(folder: Path) -> None:
    kept = {name: text for name, text in os.environ.items() if name.startswith("PIP_")}
    environment = {**kept, "HOME": str(folder / "home"), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    with subprocess.Popen(
        ("bash", "-euxc", "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n" + script(folder)),
        cwd=folder / "clone",
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as shell:
        said, _ = shell.communicate(timeout=900)
    assert shell.returncode == 0, said
    assert "all is well: 1 type, queues default" in said
    assert "shop.greet\tdefault" in said
    assert "is no setting" not in said + (folder / "run.out").read_text()
    assert not [*(folder / "opt/sandbox").iterdir(), *(folder / "var/lib").iterdir()]


def test_the_unit_reads_the_settings_and_starts_the_release_of_the_page() -> None:
    page, unit = PAGE.read_text(), UNIT.read_text()
    [settings] = re.findall(r"^    EnvironmentFile=(.+)$", unit, re.MULTILINE)
    [program] = re.findall(r"^    ExecStart=(.+) run$", unit, re.MULTILINE)
    assert f"cat > {settings} <<" in page
    assert f"{program} restart" in page
