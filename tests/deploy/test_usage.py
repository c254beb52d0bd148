"""What fab says of commands that cannot be meant, without a word to a host: its address answers nobody."""

import subprocess

import pytest

from tests.deploy.conftest import needs_fab
from tests.deploy.project import FAB, Project

STAGE = """\
hosts = ["root@192.0.2.1"]
domain = "x"
certificate = "/c.pem"
certificate_key = "/k.pem"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    needs_fab()
    made = Project(tmp_path_factory.mktemp("usage"))
    made.folder.mkdir()
    made.copy_deploy()
    (made.folder / "deploy" / "stages" / "test.toml").write_text(STAGE)
    (made.folder / "deploy" / "stages" / "other.toml").write_text(STAGE)
    return made


def fab(project: Project, *words: str) -> subprocess.CompletedProcess[str]:
    command = [FAB, "-r", "deploy", *words]
    return subprocess.run(
        command, cwd=project.folder, env=project.environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["test", "depoly"], "No idea what 'depoly' is"),
        (["test", "deploy", "--loud"], "No idea what '--loud' is"),
        (["--loud", "test", "deploy"], "No idea what '--loud' is"),
        (["test", "deploy", "--lock-wait", "long"], "invalid literal for int"),
        (["test", "lock"], "did not receive required positional arguments"),
        (["test", "lock", " "], "say why"),
        (["test", "rollback", "--to", "yesterday"], "'yesterday' is no release's name"),
        (["test", "deploy", "--release", "yesterday"], "'yesterday' is no release's name"),
        (["test", "deploy", "--ref", "-x y"], "--ref is '-x y'"),
        (["test", "deploy", "--ref", "main", "--release", "20260101T000000-abcdef0"], "not both"),
        (["deploy"], "name one stage before the command: other, test"),
        (["deploy", "test"], "name one stage before the command"),
        (["test", "other", "deploy"], "name one stage before the command"),
        (["test", "deploy", "other", "deploy"], "name one stage before the command"),
        (["test"], "say what to do on test"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_ends_with_2(words: list[str], said: str, project: Project) -> None:
    done = fab(project, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_release_that_was_not_built_here_is_carried_nowhere(project: Project) -> None:
    done = fab(project, "test", "deploy", "--release", "20260101T000000-abcdef0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "was not built in this folder" in done.stderr


@pytest.mark.parametrize(
    "words",
    [["--list"], ["--help"], ["--help", "deploy"], ["test", "deploy", "--help"], ["test", "deploy:check", "-h"]],
)
def test_help_is_told_and_no_host_is_asked(words: list[str], project: Project) -> None:
    done = fab(project, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage" in done.stdout or "deploy.warm" in done.stdout


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('[secrets]\nREDIS_URL = "env:NO_SUCH"', "the secret REDIS_URL cannot be read from env:NO_SUCH"),
        ('[environment]\nSANDBOX_GRACE = "long"', "SANDBOX_GRACE is 'long'; allowed are seconds"),
    ],
)
def test_what_cannot_be_rendered_is_told_before_a_host_is_asked(lines: str, said: str, project: Project) -> None:
    file = project.folder / "deploy" / "stages" / "test.toml"
    file.write_text(f"{STAGE}{lines}\n")
    try:
        done = fab(project, "test", "deploy")
    finally:
        file.write_text(STAGE)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_host_keys_that_cannot_be_read_are_named(project: Project) -> None:
    stages = project.folder / "deploy" / "stages"
    (stages / "third.toml").write_text(f'{STAGE}known_hosts = "../../gone"\n')
    done = fab(project, "third", "status")
    (stages / "third.toml").unlink()
    assert done.returncode == 2
    assert "known_hosts of the stage third cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
