"""Bugsink, a server that speaks Sentry's protocol, in a virtualenv of its own: made once, then kept in .venv."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.servers import eventually, free_port

REQUIREMENT = "bugsink==2.6.1"
HOME = Path(__file__).resolve().parents[3] / ".venv" / "bugsink"
OPTIONS = """
DATABASES["default"]["NAME"] = "db.sqlite3"
DATABASES["snappea"]["NAME"] = "snappea.sqlite3"
PHONEHOME = False
BUGSINK["PHONEHOME"] = False
BUGSINK["INGEST_STORE_BASE_DIR"] = "ingestion"
"""


class Bugsink:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._token = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> "Bugsink":
        install()
        self._run("bugsink-create-conf", "--template=local", "--host=127.0.0.1", f"--port={self._port}")
        with (self._folder / "bugsink_conf.py").open("a") as conf:
            conf.write(OPTIONS)
        for words in (["migrate"], ["migrate", "--database=snappea"], ["prestart"]):
            self._run("bugsink-manage", *words)
        self._token = self._run("bugsink-manage", "create_auth_token").split()[-1]
        with (self._folder / "output").open("wb") as output:
            words = [str(HOME / "bin" / "gunicorn"), f"--bind=127.0.0.1:{self._port}", "--threads=4", "bugsink.wsgi"]
            self._process = subprocess.Popen(
                words, cwd=self._folder, env=self._environment(), stdout=output, stderr=output
            )
        eventually(self._answers, 60)
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    def new_project(self, name: str) -> "Project":
        team = self.call("teams/", {"name": name})
        self.call("projects/", {"team": team["id"], "name": name})
        [project] = [each for each in self.call("projects/")["results"] if each["name"] == name]
        return Project(self, project["id"], project["dsn"])

    def call(self, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.url}/api/canonical/0/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "output").read_text()
        try:
            return bool(self.call("projects/") is not None)
        except urllib.error.HTTPError:
            raise
        except OSError:
            return False

    def _run(self, program: str, *words: str) -> str:
        done = subprocess.run(
            [str(HOME / "bin" / program), *words],
            cwd=self._folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _environment(self) -> dict[str, str]:
        clean = {name: text for name, text in os.environ.items() if not name.startswith(("SENTRY_", "SANDBOX_"))}
        settings = {"DJANGO_SETTINGS_MODULE": "bugsink_conf", "PYTHONPATH": str(self._folder)}
        return {**clean, **settings, "CREATE_SUPERUSER": "admin@example.test:secret-of-the-admin"}


class Project:
    def __init__(self, server: Bugsink, id: int, dsn: str) -> None:
        self.dsn = dsn
        self._server = server
        self._id = id

    def issues(self) -> list[dict[str, Any]]:
        return list(self._server.call(f"issues/?project={self._id}")["results"])

    def events(self, issue: dict[str, Any]) -> list[dict[str, Any]]:
        """The events in full, as they were stored."""
        found = self._server.call(f"events/?issue={issue['id']}")["results"]
        return [self._server.call(f"events/{event['id']}/") for event in found]


def install() -> None:
    """Starts over after half an installation; of two tests at once, one waits for the other."""
    HOME.parent.mkdir(exist_ok=True)
    with HOME.with_name("bugsink.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = HOME / REQUIREMENT
        if done.exists():
            return
        shutil.rmtree(HOME, ignore_errors=True)
        subprocess.run((sys.executable, "-m", "venv", HOME), check=True)
        pip = (HOME / "bin" / "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check", REQUIREMENT)
        subprocess.run(pip, check=True, capture_output=True)
        done.touch()
