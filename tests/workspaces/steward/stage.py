"""A host in namespaces with a steward on it, a service's user and two people."""

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from tests.deploy.host import TestHost
from tests.servers import BUSY, CHANCE, eventually
from tests.system.instance import ROOT

PROGRAM = "/srv/sandbox-steward"
BASE = "/var/lib/sandbox-workspaces"
SOCKET = "/run/sandbox-steward/socket"
MODULES = ("places", "recipes", "looking", "dotenv", "launch")
MINE, NEIGHBOURS = "w-jo-aaaaaaaa", "w-eve-bbbbbbbb"
LIMITS: dict[str, Any] = {"memory_mb": 512, "disk_mb": 64, "inodes": 20_000, "processes": 40}

# Sends the line that it is given, and prints the answers until the steward hangs up.
ASK = f"""
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({SOCKET!r})
connection.sendall(sys.argv[1].encode() + b"\\n")
while chunk := connection.recv(65536):
    sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
"""

# Keeps the first descriptor that comes by a socket; whoever is in a cage reaches it.
KEEPER = "sandbox-keeper"
KEEP = f"""
import os, socket, time
listener = socket.socket(socket.AF_UNIX)
listener.bind("\\0{KEEPER}")
listener.listen()
print("listens", flush=True)
kept = socket.recv_fds(listener.accept()[0], 1, 1)
print("keeps", flush=True)
time.sleep(3600)
"""
# What gives it descriptor 1.
GIVE = f"""
import socket
giver = socket.socket(socket.AF_UNIX)
giver.connect("\\0{KEEPER}")
socket.send_fds(giver, [b"x"], [1])
"""


def is_empty(group: Path) -> bool:
    return not (group / "cgroup.procs").read_text()


class StewardHost:
    def __init__(self, folder: Path) -> None:
        self.host = TestHost(folder, "steward")
        number = CHANCE.randrange(1, 290)  # uids and control groups are this machine's: tests side by side share none
        self._first_uid = 70_000 + 100 * number
        self._groups = f"steward-of-tests-{number}"

    def start(self, key: Path, **config: Any) -> "StewardHost":
        self.host.make(key).boot()
        # A /tmp of its own: the host's disk itself lies in this machine's. The project's folder may lie there, too.
        self.host.sh(
            f"mount --bind {ROOT} /mnt; mount -t tmpfs tmpfs /tmp;"
            f"mkdir -p {ROOT}; mount --bind /mnt {ROOT}; umount /mnt"
        )
        for user in ("sandbox", "jo", "eve"):
            kind = ("--system",) if user == "sandbox" else ()
            self.host.run("useradd", *kind, "--create-home", user)
        self.install({**LIMITS, "first_uid": self._first_uid, "last_uid": self._first_uid + 99, **config})
        self.start_steward()
        return self

    def install(self, config: Mapping[str, Any]) -> None:
        """As docs/steward.md says to do it by hand."""
        program = self.path(PROGRAM)
        shutil.copytree(ROOT / "deploy" / "steward", program / "steward", ignore=shutil.ignore_patterns("__pycache__"))
        (program / "steward" / "__main__.py").rename(program / "__main__.py")
        (program / "service" / "workspaces").mkdir(parents=True)
        for name in MODULES:
            shutil.copy(ROOT / "service" / "workspaces" / f"{name}.py", program / "service" / "workspaces")
        self.configure(config)

    def configure(self, config: Mapping[str, Any]) -> None:
        file = self.path("/etc/sandbox/steward.toml")
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in config.items()))

    def start_steward(self) -> None:
        """With no more capabilities than its unit leaves it, and in control groups of these tests alone."""
        unit = (ROOT / "deploy" / "templates" / "steward_unit").read_text()
        [names] = re.findall(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)
        bounds = ",".join(["-all", *(name.lower().replace("cap_", "+") for name in names.split())])
        daemon = f"setpriv --no-new-privs --bounding-set={bounds} /usr/bin/python3 -I {PROGRAM} serve"
        if Path("/sys/fs/cgroup/pids").is_dir():
            folders = " ".join(f"/sys/fs/cgroup/{name}/{self._groups}" for name in ("memory", "pids"))
            enter = f"for each in {folders}; do mkdir -p $each; echo $$ >$each/cgroup.procs; done"
            daemon = f"sh -c '{enter}; exec {daemon}'"
        self.host.sh(f"{daemon} </dev/null >>/var/log/steward 2>&1 & echo $! >/run/steward.pid")
        eventually(self._is_there, 30 * BUSY)

    def _is_there(self) -> bool:
        with suppress(OSError):
            return "done" in self.ask("about", check=False)
        return False

    def steward_lives(self) -> bool:
        """What has been killed may take a moment to end."""
        if self._is_there():
            return True
        self._await_end()
        return False

    def end(self) -> None:
        self.host.kill()
        for root in Path("/sys/fs/cgroup").glob(f"*/{self._groups}"):
            for group in sorted(filter(Path.is_dir, (root, *root.rglob("*"))), reverse=True):
                eventually(partial(is_empty, group), 10 * BUSY)
                group.rmdir()

    def stop_steward(self, signal: str) -> None:
        self.host.sh(f"kill -{signal} $(cat /run/steward.pid)")
        self._await_end()

    def _await_end(self) -> None:
        is_there = ("sh", "-c", "test -d /proc/$(cat /run/steward.pid)")
        eventually(lambda: self.host.run(*is_there, check=False).returncode, 30 * BUSY)

    def path(self, inside: str) -> Path:
        """A file of the host's disk, as this machine sees it: only below the folders that it has of its own."""
        return self.host.folder / inside.lstrip("/")

    # --- who asks

    def words(self, request: Mapping[str, Any], user: str = "sandbox") -> list[str]:
        who = ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--pdeathsig=KILL")
        return [*who, "/usr/bin/python3", "-I", "-c", ASK, json.dumps(request)]

    def answers(self, request: Mapping[str, Any] | str, user: str = "root") -> list[dict[str, Any]]:
        """Root asks from here, who may what the service may: that is quicker."""
        if user != "root":
            assert not isinstance(request, str)
            done = self.host.run(*self.words(request, user), check=False, seconds=120 * BUSY)
            return [json.loads(line) for line in done.stdout.splitlines()]
        line = request if isinstance(request, str) else json.dumps(request)
        with socket.socket(socket.AF_UNIX) as connection, suppress(BrokenPipeError, ConnectionResetError):
            connection.settimeout(120 * BUSY)
            connection.connect(f"/proc/{self.host.first}/root{SOCKET}")
            connection.sendall(line.encode() + b"\n")
            return [json.loads(line) for line in connection.makefile("rb")]
        return []

    def ask(self, verb: str, *, user: str = "root", check: bool = True, **arguments: Any) -> dict[str, Any]:
        *_, last = [{}, *self.answers({"verb": verb, **arguments}, user)]
        assert not check or "done" in last, (verb, last)
        return last

    def do(self, verb: str, slug: str = MINE, **arguments: Any) -> Any:
        return self.ask(verb, slug=slug, **arguments)["done"]

    def run(self, step: str, *arguments: str, slug: str = MINE, seconds: float = 60) -> tuple[str, dict[str, Any]]:
        """What it printed, and the last answer."""
        request = {"verb": "run", "slug": slug, "step": step, "arguments": arguments, "seconds": seconds}
        *lines, last = self.answers(request)
        return "\n".join(line["line"] for line in lines), last

    @contextmanager
    def asking(self, verb: str, **arguments: Any) -> Iterator["subprocess.Popen[bytes]"]:
        """Somebody who waits for the answer."""
        inside = ("nsenter", "--target", str(self.host.first), "--all")
        words = [*inside, *self.words({"verb": verb, **arguments})]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    @contextmanager
    def running(self, script: str, user: str) -> Iterator[Path]:
        """Somebody's own program, in no cage; the file is what it says."""
        said = self.path("/srv/said")
        who = (f"--reuid={user}", f"--regid={user}", "--clear-groups", "--pdeathsig=KILL")
        words = ["nsenter", "--target", str(self.host.first), "--all", "setpriv", *who, "/usr/bin/python3", "-I", "-c"]
        with said.open("wb") as file:
            process = subprocess.Popen([*words, script], stdout=file, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            eventually(lambda: "listens" in said.read_text(), 30 * BUSY)
            yield said
        finally:
            process.kill()
            process.wait()

    # --- a project

    def project(self, **files: str) -> None:
        """The mirror has one commit with these files; `test` is what its tests run."""
        folder = self.path("/srv/project")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, text in files.items():
            path = folder / name
            path.write_text(text)
            path.chmod(0o755)
        if "test" in files:
            (folder / "test").rename(folder / "test.sh")
            (folder / "Procfile").write_text("test: sh test.sh\n")
        mirror = f"{BASE}/mirror.git"
        git = "git -C /srv/project -c user.name=a -c user.email=a@example.org"
        self.host.sh(
            f"git init -q -b main /srv/project; {git} add -A; {git} commit -qm first; rm -rf {mirror};"
            f"git clone -q --mirror /srv/project {mirror}; chown -R sandbox {mirror} /srv/project"
        )

    def build(self, slug: str = MINE) -> None:
        """From nothing to a clone of the project."""
        for verb in ("kill", "remove_folders", "remove_user", "make_user", "make_folders"):
            self.do(verb, slug)
        output, last = self.run("clone", slug=slug)
        assert last == {"exit": 0}, output

    def test(self, script: str, slug: str = MINE, seconds: float = 60) -> tuple[str, dict[str, Any]]:
        """Strangers' code, as the project's own test."""
        self.project(test=script)
        self.build(slug)
        return self.run("test", slug=slug, seconds=seconds)

    def uid(self, slug: str = MINE) -> int:
        return int(self.host.sh(f"id -u {slug}"))
