"""What is rendered for a host."""

import ctypes
import itertools
import os
import re
import shlex
import subprocess
from dataclasses import replace
from glob import glob
from pathlib import Path

import pytest

from rollout import stage, templates
from rollout.errors import UsageError
from service import settings
from service.supervise.start import environment
from tests.deploy.project import FAB
from tests.system.instance import ROOT

DEPLOY = ROOT / "deploy"


def rendered(path: str) -> str:
    [found] = [file for file in templates.files(stage.read(DEPLOY, "production"), {}) if file.path == path]
    return found.content


def test_every_template_is_put_somewhere_or_printed() -> None:
    assert {file.name for file in (DEPLOY / "templates").iterdir()} == {
        *templates.FILES,
        *templates.PIP,
        *templates.INDEX,
        *templates.STEWARD,
        templates.BALANCER,
    }


def test_the_balancers_site_names_the_hosts_without_what_ssh_needs() -> None:
    read = replace(stage.read(DEPLOY, "production"), hosts=("root@a.example.com", "deploy@b.example.com:2222", "c"))
    text = templates.balancer(read)
    assert re.findall(r"server (\S+) max_fails=2", text)[:3] == ["a.example.com:443", "b.example.com:443", "c:443"]
    assert "@" not in re.sub(r"@(once|unreachable)", "", text)


def test_a_place_that_nothing_fills_is_an_error_with_the_templates_name() -> None:
    assert templates.fill("a @b@ $c", {"b": "x"}, "nginx") == "a x $c"
    with pytest.raises(UsageError, match=r"templates/nginx: there is no @d@; there are b\."):
        templates.fill("@d@", {"b": "x"}, "nginx")


def test_the_settings_are_ones_that_the_service_takes() -> None:
    lines = [line for line in rendered("/etc/default/sandbox").splitlines() if not line.startswith("#")]
    given = dict(shlex.split(line)[0].split("=", 1) for line in lines if line)
    read = settings.read(given)
    assert (str(read.home), str(read.logs)) == ("/var/lib/sandbox", "/var/log/sandbox")
    assert read.socket == "/run/sandbox/web.sock"
    assert set(given) <= {variable.name for variable in settings.VARIABLES}


def test_the_balancers_site_is_printed_and_nobody_is_asked() -> None:
    done = subprocess.run([FAB, "-r", "deploy", "production", "balancer"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, templates.balancer(stage.read(DEPLOY, "production")))


# --- how long a stop and a start may take ------------------------------------------------------------

GRACES = [
    {},
    {"SANDBOX_WEB_GRACE": "120", "SANDBOX_GRACE": "600"},
    {"SANDBOX_WEB_GRACE": "7.5", "SANDBOX_GRACE": "1e2", "SANDBOX_RELOAD": "300"},
]


def sum_of_the_graces(given: dict[str, str]) -> float:
    """As circusd has them: from circus.ini, with the variables of the service."""
    values = environment.variables(settings.read({"SANDBOX_HOME": "/tmp", **given}))
    ini = (ROOT / "circus.ini").read_text()
    graces = re.findall(r"^graceful_timeout = (?:\$\(circus\.env\.(\w+)\)|(\d+))$", ini, re.MULTILINE)
    assert len(graces) == 6
    graces.remove(("SANDBOX_RUNNER_STOP", ""))  # builders stop beside the other runners: their priority is the same
    return sum(float(values[name] if name else number) for name, number in graces)


@pytest.mark.parametrize("given", GRACES)
def test_the_unit_and_the_init_script_wait_for_the_sum_of_the_graces(given: dict[str, str]) -> None:
    least = sum_of_the_graces(given)
    read = replace(stage.read(DEPLOY, "production"), environment=given)
    [unit] = [file.content for file in templates.files(read, {}) if file.path.endswith(".service")]
    stop, start = (int(re.findall(rf"^Timeout{word}Sec=(\d+)$", unit, re.MULTILINE)[0]) for word in ("Stop", "Start"))
    ready = int(re.findall(r"ready --wait (\d+)$", unit, re.MULTILINE)[0])
    assert least + 5 <= stop <= least + 30
    assert stop + max(60, float(given.get("SANDBOX_RELOAD", 30))) <= ready < start

    script = re.findall(r"^st\w+_seconds\(\) \{.*?^\}", (DEPLOY / "templates" / "init").read_text(), re.M | re.S)
    said = _shell("\n".join([*script, "stop_seconds", "start_seconds"]), given)
    assert [int(line) for line in said.split()] == [stop, ready]


@pytest.mark.parametrize("given", GRACES)
def test_fab_waits_for_every_trial_of_a_reload_and_for_a_stop_after_a_start(given: dict[str, str]) -> None:
    read = replace(stage.read(DEPLOY, "production"), environment=given)
    trial, stop = float(given.get("SANDBOX_RELOAD", 30)), sum_of_the_graces(given)
    gated = len(re.findall(r"^release = ", (ROOT / "circus.ini").read_text(), re.MULTILINE))
    assert gated > 1
    assert templates.change_seconds(read) >= max(gated * trial + stop, stop + max(60, trial) + stop)


def test_a_grace_that_is_no_number_is_refused() -> None:
    read = replace(stage.read(DEPLOY, "production"), environment={"SANDBOX_GRACE": "long"})
    with pytest.raises(UsageError, match="SANDBOX_GRACE is 'long'; allowed are seconds"):
        templates.files(read, {})


# --- the file of settings -----------------------------------------------------------------------------

HOSTILE = {
    "BLANKS": "  two  blanks\tand a tab ",
    "DOLLARS": "$HOME ${HOME} $(id) `id` $$",
    "PERCENT": "%h %% %n",
    "DOUBLE": 'say "so"',
    "MARKS": "a#b # c ; d = e & f | g > h < i ! j * k ? [l] {m} ~ (n)",
    "FIRST": "#;=",
    "UNICODE": "Grüße, 世界 🙂 \u00a0",
    "EMPTY": "",
    "URL": "redis://user:p%40ss@host:6379/0?db=1&x=y",
}


def test_a_shell_and_systemd_read_the_same_settings(tmp_path: Path) -> None:
    read = replace(stage.read(DEPLOY, "production"), environment=HOSTILE)
    [text] = [file.content for file in templates.files(read, {}) if file.path == "/etc/default/sandbox"]
    file = tmp_path / "default"
    file.write_text(text)
    assert {name: by_systemd(file)[name] for name in HOSTILE} == HOSTILE
    shown = _shell(f"set -a; . {file}; set +a; exec env -0", {})
    by_sh = dict(line.split("=", 1) for line in shown.split("\0") if line)
    assert {name: by_sh[name] for name in HOSTILE} == HOSTILE


@pytest.mark.parametrize("character", ["'", "\\", "\n", "\r", "\0", "\x1b", "\x7f"])
def test_what_they_would_read_differently_cannot_stand_there(character: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        stage.KEYS["environment"].read({"A": f"x{character}y"})


def by_systemd(file: Path) -> dict[str, str]:
    """By the function with which systemd reads an EnvironmentFile."""
    found = glob("/usr/lib/*/systemd/libsystemd-shared-*.so")
    if not found:
        pytest.skip("systemd is not installed; `apt-get install systemd` does it")
    load = ctypes.CDLL(found[0]).load_env_file
    load.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.POINTER(ctypes.c_char_p))]
    lines = ctypes.POINTER(ctypes.c_char_p)()
    assert load(None, bytes(file), ctypes.byref(lines)) == 0
    read = [line.decode() for line in itertools.takewhile(lambda line: line is not None, lines)]
    return dict(line.split("=", 1) for line in read)


def _shell(script: str, given: dict[str, str]) -> str:
    variables = {"PATH": os.environ["PATH"], **given}
    return subprocess.run(["sh", "-c", script], env=variables, capture_output=True, text=True, check=True).stdout


# --- scripts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [DEPLOY / "templates" / "init", DEPLOY / "templates" / "index_init", *sorted((DEPLOY / "remote").glob("*.sh"))],
    ids=lambda path: path.name,
)
def test_a_script_is_one(script: Path) -> None:
    shell = "sh" if script.name.endswith("init") else "bash"
    assert subprocess.run([shell, "-n", script], capture_output=True, check=False).stderr == b""
