"""What is rendered for a host."""

import shlex
import subprocess
from pathlib import Path

import pytest

from rollout import stage, templates
from rollout.errors import UsageError
from service import settings
from tests.system.instance import ROOT

DEPLOY = ROOT / "deploy"


def rendered(path: str) -> str:
    [found] = [file for file in templates.files(stage.read(DEPLOY, "production"), {}) if file.path == path]
    return found.content


def test_every_template_is_put_somewhere() -> None:
    assert {file.name for file in (DEPLOY / "templates").iterdir()} == {
        *templates.FILES,
        *templates.PIP,
        *templates.INDEX,
    }


def test_a_place_that_nothing_fills_is_an_error_with_the_templates_name() -> None:
    assert templates.fill("a @b@ $c", {"b": "x"}, "nginx") == "a x $c"
    with pytest.raises(UsageError, match=r"templates/nginx: there is no @d@; there are b\."):
        templates.fill("@d@", {"b": "x"}, "nginx")


def test_the_settings_are_ones_that_the_service_takes() -> None:
    lines = [line for line in rendered("/etc/default/sandbox").splitlines() if not line.startswith("#")]
    environment = dict(shlex.split(line)[0].split("=", 1) for line in lines if line)
    read = settings.read(environment)
    assert (str(read.home), str(read.logs)) == ("/var/lib/sandbox", "/var/log/sandbox")
    assert read.socket == "/run/sandbox/web.sock"
    assert set(environment) <= {variable.name for variable in settings.VARIABLES}


@pytest.mark.parametrize(
    "script",
    [DEPLOY / "templates" / "init", DEPLOY / "templates" / "index_init", *sorted((DEPLOY / "remote").glob("*.sh"))],
    ids=lambda path: path.name,
)
def test_a_script_is_one(script: Path) -> None:
    shell = "sh" if script.name.endswith("init") else "bash"
    assert subprocess.run([shell, "-n", script], capture_output=True, check=False).stderr == b""
