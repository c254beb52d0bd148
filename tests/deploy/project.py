"""A project to deploy: a copy of this one in a git repository of its own, and `fab` on a stage `test`."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.deploy.host import TestHost
from tests.system.instance import ROOT

FAB = ROOT / "deploy" / ".venv" / "bin" / "fab"
NOT_COPIED = shutil.ignore_patterns("__pycache__", ".venv", ".build", "stages")
DOMAIN = "sandbox.example.com"
ENVIRONMENT = 'SANDBOX_RELOAD = "30"\nSANDBOX_RUNNERS = "1"\nSANDBOX_WEB_WORKERS = "1"\n'


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.key = folder / "key"
        self._git_environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "EMAIL": "test@example.com"}

    def make(self) -> "Project":
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key))
        self.folder.mkdir()
        self.copy_deploy()
        for name in ("service", "conf"):
            shutil.copytree(ROOT / name, self.folder / name, ignore=NOT_COPIED)
        for name in (
            "circus.ini",
            "setup.py",
            "pyproject.toml",
            "requirements.txt",
            "requirements-fast.txt",
            "MANIFEST.in",
        ):
            shutil.copy(ROOT / name, self.folder)
        (self.folder / ".gitignore").write_text("__pycache__/\n.build\n")
        for name in ("wheels", "requirements"):  # what other tests have fetched is not fetched again
            (ROOT / "deploy" / ".build" / name).mkdir(parents=True, exist_ok=True)
            (self.folder / "deploy" / ".build").mkdir(exist_ok=True)
            (self.folder / "deploy" / ".build" / name).symlink_to(ROOT / "deploy" / ".build" / name)
        self.git("init", "--quiet", "--initial-branch", "main")
        self.commit("the project")
        return self

    def copy_deploy(self) -> None:
        shutil.copytree(ROOT / "deploy", self.folder / "deploy", ignore=NOT_COPIED)
        (self.folder / "deploy" / "stages").mkdir()

    def copy_of(self, other: "Project") -> "Project":
        _run("cp", "-a", str(other.folder), str(self.folder))
        for file in (other.key, other.key.with_suffix(".pub")):
            shutil.copy(file, self.key.parent)
        return self

    def git(self, *words: str) -> str:
        return _run("git", "-c", "user.name=test", *words, cwd=self.folder, env=self._git_environment)

    def commit(self, message: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD").strip()

    def change(self, file: str, old: str, new: str, message: str) -> str:
        text = (self.folder / file).read_text()
        assert old in text
        (self.folder / file).write_text(text.replace(old, new))
        return self.commit(message)

    def stage(
        self,
        hosts: Sequence[TestHost],
        extra: str = "",
        environment: str = "",
        verify_seconds: int = 2,
        user: str = "root",
    ) -> None:
        """Writes the stage `test`."""
        addresses = ", ".join(f'"{user}@{host.address}"' for host in hosts)
        (self.folder / "deploy" / "stages" / "test.toml").write_text(
            f'hosts = [{addresses}]\nidentity = "{self.key}"\nknown_hosts = "../../known_hosts"\n'
            f'domain = "{DOMAIN}"\ncertificate = "/etc/ssl/test.pem"\ncertificate_key = "/etc/ssl/test.key"\n'
            f"verify_seconds = {verify_seconds}\n{extra}\n[environment]\n{ENVIRONMENT}{environment}\n"
        )
        (self.folder.parent / "known_hosts").write_text("".join(host.known_host for host in hosts))
        self.commit("the stage")

    def fab_command(self, *words: str, stage: str = "test") -> list[str]:
        return [str(FAB), "-r", "deploy", stage, *words]

    def fab(self, *words: str, code: int = 0, seconds: float = 300, typed: str = "") -> str:
        """Returns all that it printed; what is typed comes through a pipe."""
        done = subprocess.run(
            self.fab_command(*words),
            cwd=self.folder,
            env=self.environment,
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def start(
        self, *words: str, output: Path, variables: Mapping[str, str] | None = None, stage: str = "test"
    ) -> subprocess.Popen[bytes]:
        with output.open("wb") as file:
            return subprocess.Popen(
                self.fab_command(*words, stage=stage),
                cwd=self.folder,
                env={**self.environment, **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def _run(*words: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout
