"""A service on the steward's host, as one is run: by a user of its own, at a unix socket, with its repository behind
the host's sshd.
"""

import hashlib
import hmac
import json
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from service.supervise.start.announce import UnixConnection
from tests.servers import BUSY, eventually
from tests.system.instance import ROOT
from tests.workspaces.steward.builder import DOMAIN
from tests.workspaces.steward.stage import BASE, StewardHost

HERE = "/srv/here"  # the project's folder, for every user of the host
PYTHON = f"{HERE}/.venv/bin/python"
HOME, SOCKET = "/var/lib/sandbox", "/run/sandbox/web.sock"
WHEELS = f"{BASE}/wheels"
REPOSITORY = "/srv/git/shop.git"
SECRET = b"between the forge and us"
SECONDS = 120 * BUSY
ENDED = ("succeeded", "failed", "cancelled")
PREPARE = f"""
useradd --system --create-home --home-dir /srv/git --shell /bin/sh git
usermod -p '*' git
chmod 755 /srv/git
install -d -o sandbox -m 700 {HOME}
install -d -o sandbox -m 755 /run/sandbox
install -o sandbox -m 600 /etc/ssh/deploy_key {HOME}/key
install -o sandbox -m 600 /etc/ssh/hook {HOME}/hook
install -o sandbox -m 644 /etc/ssh/deploy_known {HOME}/known_hosts
install -d -o jo -m 700 /home/jo/.ssh
install -o jo -m 600 /etc/ssh/deploy_key /home/jo/.ssh/id_ed25519
install -o jo -m 600 /etc/ssh/deploy_known /home/jo/.ssh/known_hosts
setpriv --reuid=git --regid=git --init-groups git init -q --bare -b main {REPOSITORY}
mkdir {HERE}
mount --bind {ROOT} {HERE}
"""


class ServedHost:
    def __init__(self, folder: Path, key: Path, wheels: str) -> None:
        self._key = key
        self.other_python = f"{sys.base_prefix}/bin/python3"
        self.stage = StewardHost(folder)
        config = {"index": WHEELS, "origin": self.repository, "pythons": ["python3", self.other_python]}
        self.stage.start(key, memory_mb=1024, disk_mb=512, **config)
        shutil.copytree(wheels, self.stage.path(WHEELS)).chmod(0o755)
        for name, source in (("deploy_key", key.read_bytes()), ("hook", SECRET)):
            self.stage.path(f"/etc/ssh/{name}").write_bytes(source)
        self.stage.path("/etc/ssh/deploy_known").write_text(self.stage.host.known_host)
        self.stage.host.sh(PREPARE)
        self.stage.host.lend(Path(sys.base_prefix))

    def push(self, branch: str, files: dict[str, str]) -> str:
        """Somebody commits these files to this branch; returns the commit."""
        work = self.stage.path("/srv/push")
        shutil.rmtree(work, ignore_errors=True)
        git = "git -c user.name=a -c user.email=a@example.org"
        known = f"GIT_SSH_COMMAND='ssh -i {HOME}/key -o UserKnownHostsFile={HOME}/known_hosts'"
        self.stage.host.sh(
            f"cd /srv; {known} {git} clone -q {self.repository} push 2>&1; cd push;"
            f"git checkout -q {branch} || git checkout -q -b {branch}"
        )
        for name, text in files.items():
            (work / name).write_text(text)
        self.stage.host.sh(
            f"cd /srv/push; git add -A; {git} commit -qm change; {known} git push -q origin HEAD:refs/heads/{branch}"
        )
        return self.stage.host.sh("git -C /srv/push rev-parse HEAD")

    def branches(self) -> list[str]:
        listed = self.stage.host.sh(f"setpriv --reuid=git --regid=git --clear-groups git -C {REPOSITORY} branch")
        return sorted(listed.replace("*", "").split())

    @property
    def repository(self) -> str:
        return f"ssh://git@{self.stage.host.address}{REPOSITORY}"

    def person(self, script: str) -> str:
        """What jo does in a shell of his own."""
        user = "setpriv --reuid=jo --regid=jo --init-groups env -i PATH=/usr/bin:/bin HOME=/home/jo LANG=C.UTF-8"
        return self.stage.host.sh(f"exec {user} sh -euc {shlex.quote(script)}")

    # --- the service

    def start(self) -> None:
        command = f"{self._as_the_service()} run"
        self.stage.host.sh(f"{command} >/var/log/service 2>&1 </dev/null & echo $! >/run/service")
        eventually(lambda: self.call("GET", "/health/ready")[0] == 200, SECONDS)

    def command(self, *words: str) -> str:
        return self.stage.host.sh(f"{self._as_the_service()} {shlex.join(words)} 2>&1", check=False)

    def _as_the_service(self) -> str:
        variables = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": HOME, "LANG": "C.UTF-8",
            "PYTHONPATH": HERE, "SANDBOX_HOME": HOME, "SANDBOX_BIND": f"unix:{SOCKET}", "SANDBOX_RUNNERS": "1",
            "SANDBOX_WEB_WORKERS": "1", "SANDBOX_WORKSPACE_GIT": self.repository, "SANDBOX_WORKSPACES": BASE,
            "SANDBOX_WORKSPACE_DOMAIN": DOMAIN, "SANDBOX_WORKSPACE_KEY": f"{HOME}/key",
            "SANDBOX_WORKSPACE_HOOK": f"{HOME}/hook", "SANDBOX_BUILDER_THREADS": "4",
            "SANDBOX_WORKSPACE_PYTHONS": f"python3,{self.other_python}",
        }  # fmt: skip
        words = shlex.join(f"{name}={value}" for name, value in variables.items())
        user = "setpriv --reuid=sandbox --regid=sandbox --init-groups"
        return f"cd {HOME}; exec setsid {user} env -i {words} {PYTHON} -P -m service.cli"

    def pid(self) -> int:
        return int(self.stage.host.sh("cat /run/service"))

    def end(self, signal: str) -> None:
        pid = self.pid()
        self.stage.host.sh(f"kill -{signal} {pid}")
        eventually(lambda: self.stage.host.run("test", "-d", f"/proc/{pid}", check=False).returncode, SECONDS)

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        sent = json.dumps(body).encode() if body is not None else None
        with suppress(OSError):
            connection = UnixConnection(self._inside(SOCKET), SECONDS)
            try:
                connection.request(method, path, sent, {"Content-Type": "application/json", **(headers or {})})
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read())
            finally:
                connection.close()
        return 0, {}

    def tell_of_a_push(self, branch: str, sha: str) -> list[str]:
        """As GitHub does it. Returns the UIDs of what begins."""
        body = {"ref": f"refs/heads/{branch}", "after": sha}
        signature = hmac.new(SECRET, json.dumps(body).encode(), hashlib.sha256).hexdigest()
        headers = {"X-GitHub-Event": "push", "X-Hub-Signature-256": f"sha256={signature}"}
        status, answer = self.call("POST", "/hooks/git", body, headers)
        assert status == 202, answer
        return list(answer["tasks"])

    def request(self, method: str, path: str, body: Any = None) -> str:
        """The UID of the action that it begins."""
        status, answer = self.call(method, path, body)
        assert status == 202, answer
        return str(answer["task"]["uid"])

    def done(self, uid: str) -> dict[str, Any]:
        task = self.ended(uid)
        assert task["status"] == "succeeded", task
        return task

    def ended(self, uid: str) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            status, task = self.call("GET", f"/tasks?task_id={uid}")
            return task if status == 200 and task["status"] in ENDED else None

        return dict(eventually(ended, 5 * SECONDS, 0.2))

    def workspace(self, slug: str) -> dict[str, Any]:
        status, workspace = self.call("GET", f"/workspaces/{slug}")
        assert status == 200, workspace
        return workspace

    def page(self, slug: str) -> tuple[int, str]:
        """As the host's nginx asks for it."""
        connection = UnixConnection(self._inside(f"{BASE}/sockets/{slug}.sock"), SECONDS)
        try:
            connection.request("GET", "/", headers={"Host": f"{slug}.{DOMAIN}"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def _inside(self, path: str) -> str:
        return f"/proc/{self.stage.host.first}/root{path}"
