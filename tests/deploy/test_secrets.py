"""A secret reaches the service, and nobody else."""

import subprocess
from pathlib import Path

import pytest

from rollout import secrets, stage
from rollout.errors import UsageError
from tests.deploy.test_stage import GOOD
from tests.deploy.world import World, who_showed

SENTINEL = "sentinel5c0ffee5entinel"


def a_stage(folder: Path, line: str) -> stage.Stage:
    (folder / "deploy" / "stages").mkdir(parents=True)
    (folder / "deploy" / "deploy.toml").write_text("")
    (folder / "deploy" / "stages" / "qa.toml").write_text(f"{GOOD}[secrets]\n{line}\n")
    return stage.read(folder / "deploy", "qa")


@pytest.mark.parametrize("source", ["env:TOKEN", "file:token", "command:cat token"])
def test_a_secret_comes_from_the_environment_a_file_or_a_command(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", SENTINEL)
    (tmp_path / "token").write_text(f"{SENTINEL}\n")
    assert secrets.read(a_stage(tmp_path, f'REDIS_URL = "{source}"')) == {"REDIS_URL": SENTINEL}


@pytest.mark.parametrize(
    "source", ["env:NO_SUCH", "file:no-such", "command:exit 3", "command:true", "command:echo \\\\"]
)
def test_a_secret_that_cannot_be_had_is_named(source: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the secret REDIS_URL"):
        secrets.read(a_stage(tmp_path, f'REDIS_URL = "{source}"'))


@pytest.mark.slow
def test_a_secret_is_found_in_the_settings_of_the_host_and_nowhere_else(world: World) -> None:
    token = world.folder / "token"
    token.write_text(f"https://{SENTINEL}@127.0.0.1/1")
    world.project.stage(world.hosts, extra=f'[secrets]\nSENTRY_DSN = "file:{token}"\n')
    said = ""
    seen: set[str] = set()
    for number, command in enumerate(("setup", "plan", "deploy", "rollback", "restart")):
        output = world.folder / f"output{number}"
        fab = world.project.start(command, output=output)
        seen |= who_showed(SENTINEL, fab)
        assert fab.returncode == 0, output.read_text()
        said += output.read_text()
    default = world.host.folder / "etc/default/sandbox"
    assert f"SENTRY_DSN='https://{SENTINEL}@127.0.0.1/1'" in default.read_text()
    default.write_text(default.read_text() + "# by hand\n")
    said += world.project.fab("setup") + world.project.fab("logs") + world.project.fab("status")
    assert "# by hand" in said and SENTINEL not in said
    assert seen == set()
    found = world.host.sh(f"grep -rl {SENTINEL} /etc /srv /var/log /var/lib /run /home 2>/dev/null", check=False)
    assert found == "/etc/default/sandbox"
    here = subprocess.run(["grep", "-rl", SENTINEL, world.project.folder], stdout=subprocess.PIPE, check=False)
    assert here.stdout == b""  # nor in git, nor in what was built
