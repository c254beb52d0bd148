"""A project in a real bare repository, and workspaces of it in a folder: real git, pip, circusd and nginx."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from service.testing import Outcome, run
from service.workspaces import names, nginx, supervisor, whose
from service.workspaces.actions import types
from service.workspaces.mirror import Mirror, Origin
from service.workspaces.places import Home, Places
from service.workspaces.plain import Allowance, PlainHands
from service.workspaces.record import Workspace
from service.workspaces.work import Plan
from tests.servers import free_port

PROJECT = Path(__file__).with_name("project")
EMAIL = "jo@example.org"
SLUG = names.slug(EMAIL)
AUTHOR = ("-c", "user.name=Jo", "-c", "user.email=jo@example.org")


def git(*words: str, folder: Path) -> str:
    done = subprocess.run(["git", *AUTHOR, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make_origin(folder: Path, source: Path = PROJECT) -> Path:
    """A bare repository with the project in it."""
    work, bare = folder / "work", folder / "origin.git"
    shutil.copytree(source, work, ignore=shutil.ignore_patterns("__pycache__"))
    git("init", "--quiet", "--initial-branch=main", folder=work)
    git("add", "--all", folder=work)
    git("commit", "--quiet", "--message=The project", folder=work)
    git("clone", "--quiet", "--bare", str(work), str(bare), folder=folder)
    git("remote", "add", "origin", str(bare), folder=work)
    return bare


class Yard:
    def __init__(
        self, folder: Path, *, wheels: str = "", source: Path = PROJECT, by_port: bool = False, port: int = 0
    ) -> None:
        """With a port, another process's yard in this folder is used."""
        self.folder = folder
        self.origin = folder / "origin.git" if port else make_origin(folder, source)
        self.port = port or free_port()
        self.places = Places.under(folder / "ws")
        self.wheels = wheels
        self.by_port = by_port
        self.plan = self.planned()

    def planned(self, hands: Callable[[PlainHands], Any] = lambda hands: hands, **settled: Any) -> Plan:
        domain = nginx.PORTS if self.by_port else f"localhost:{self.port}"
        site = nginx.Addresses.at(domain, supervisor.own_nginx())
        web = supervisor.WebProcesses(self.places, site=site, memory_mb=2048)
        origin = Origin(str(self.origin))
        made = PlainHands(
            self.places,
            web,
            origin=origin.without_secrets,
            wheels=self.wheels,
            database=settled.get("database", "copy"),
            limits=Allowance(memory_mb=4096, disk_mb=2048),
        )
        return Plan(
            **{
                "places": self.places,
                "site": site,
                "mirror": Mirror(self.places.mirror, origin),
                "hands": hands(made),
                **settled,
            }
        )

    def do(self, action: str, /, **args: Any) -> Outcome:
        return do(self.plan, action, **args)

    def done(self, action: str, /, **args: Any) -> Any:
        outcome = self.do(action, **args)
        assert outcome.status == "succeeded", (outcome, [line.message for line in outcome.logs][-30:])
        return outcome.result

    def refused(self, action: str, /, **args: Any) -> str:
        outcome = self.do(action, **args)
        assert outcome.status == "failed" and outcome.error is not None, outcome
        return outcome.error.message

    def record(self, slug: str = SLUG) -> Workspace:
        found = self.plan.shelf.read(slug)
        assert found is not None
        return found

    def home(self, slug: str = SLUG) -> Home:
        return self.places.home(slug)

    def get(self, path: str = "/", slug: str = SLUG) -> tuple[int, str]:
        """As a browser does it, by the workspace's name."""
        if self.by_port:
            port, host = self.record(slug).port, "127.0.0.1"
        else:
            port, host = self.port, f"{slug}.localhost"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", path, headers={"Host": f"{host}:{port}"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def by_socket(self, slug: str = SLUG) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(30)
        made.connect(str(self.places.socket(slug)))
        return made

    def supervisor(self) -> list[int]:
        """The pids of circusd and of its nginx."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes()
                if entry.name.isdigit() and str(self.places.run).encode() in words and b"launch.py" not in words:
                    found.append(int(entry.name))
        return found

    def push(self, branch: str, name: str, text: str) -> str:
        """Somebody else commits a file and pushes."""
        work = self.folder / "work"
        git("fetch", "--quiet", "origin", folder=work)
        git("checkout", "--quiet", "-B", branch, f"origin/{branch}", folder=work)
        (work / name).write_text(text)
        git("add", "--all", folder=work)
        git("commit", "--quiet", f"--message=Change {name}", folder=work)
        git("push", "--quiet", "origin", branch, folder=work)
        return git("rev-parse", "HEAD", folder=work)

    def branches(self) -> dict[str, str]:
        lines = git("for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads", folder=self.origin)
        return dict(line.split(" ") for line in lines.splitlines())

    def close(self) -> None:
        for pid in self.supervisor():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in whose.marked(self.places.root):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def requests_while(yard: Yard, act: Callable[[], object]) -> list[int]:
    """The statuses that a browser sees meanwhile."""
    seen: list[int] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            seen.append(yard.get()[0])

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        act()
    finally:
        over.set()
        asking.join()
    return seen


def do(plan: Plan, action: str, /, **args: Any) -> Outcome:
    return run(handler(plan, action), args)


def handler(plan: Plan, action: str) -> Callable[..., Any]:
    [found] = [each.handler for each in types(plan) if each.name == f"workspace.{action}"]
    return found


def wheelhouse(folder: Path) -> str:
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder)]
    subprocess.run([*words, "-r", str(PROJECT / "requirements.txt")], check=True)
    return str(folder)
