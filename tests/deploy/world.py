"""A project, its hosts, and what clients see of them."""

import http.client
import json
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import trustme

from tests.deploy.host import TestHost
from tests.deploy.project import DOMAIN, Project
from tests.servers import eventually


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = Project(folder)
        self.hosts: list[TestHost] = []

    @classmethod
    def bare(cls, folder: Path, hosts: int = 1) -> "World":
        """Hosts on which nothing is set up; their certificate is there."""
        folder.mkdir(parents=True)
        world = cls(folder)
        world.project.make()
        certificate = trustme.CA().issue_cert(DOMAIN)
        for number in range(1, hosts + 1):
            host = TestHost(folder, f"host{number}").make(world.project.key)
            certificate.private_key_pem.write_to_path(host.folder / "etc" / "ssl" / "test.key")
            certificate.cert_chain_pems[0].write_to_path(host.folder / "etc" / "ssl" / "test.pem")
            world.hosts.append(host)
        world.project.stage(world.hosts)
        return world

    @classmethod
    def of_another_process(cls, folder: Path) -> "World":
        """To be copied: its one host is not running."""
        world = cls(folder)
        world.hosts = [TestHost(folder, "host1")]
        return world

    @classmethod
    def copy_of(cls, other: "World", folder: Path, hosts: int = 1) -> "World":
        """Hosts with the disk of the other one's first; all come up as after a boot."""
        folder.mkdir(parents=True)
        world = cls(folder)
        world.project.copy_of(other.project)
        world.hosts = [TestHost(folder, f"host{number}").copy_of(other.host) for number in range(1, hosts + 1)]
        world.project.stage(world.hosts)
        return world

    @property
    def host(self) -> TestHost:
        return self.hosts[0]

    def end(self) -> None:
        for host in self.hosts:
            host.kill()

    # --- a client ---------------------------------------------------------------------------------

    def token(self, host: TestHost | None = None) -> str:
        return ((host or self.host).folder / "srv/sandbox/shared/verify-token").read_text().strip()

    def call(
        self, method: str, path: str, body: Any = None, host: TestHost | None = None, **headers: str
    ) -> tuple[int, Any]:
        """Through nginx, from outside."""
        host = host or self.host
        connection = Https(host.address)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token(host)}", **headers}
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def serves(self, host: TestHost | None = None) -> bool:
        try:
            return self.call("GET", "/health/ready", host=host)[0] == 200
        except OSError:
            return False

    def runs_a_task(self, host: TestHost | None = None) -> bool:
        status, task = self.call("POST", "/tasks", {"type": "echo"}, host=host)
        assert status == 201, task
        return bool(
            eventually(lambda: self.call("GET", f"/tasks/{task['uid']}", host=host)[1]["status"] == "succeeded", 60)
        )


UNVERIFIED = ssl._create_unverified_context()  # made once: it reads all that the machine trusts


class Https(http.client.HTTPSConnection):
    """To this address, by the name of the domain."""

    def __init__(self, address: str) -> None:
        super().__init__(DOMAIN, timeout=60, context=UNVERIFIED)
        self._address = address

    def connect(self) -> None:
        plain = socket.create_connection((self._address, 443), self.timeout)
        self.sock = UNVERIFIED.wrap_socket(plain, server_hostname=DOMAIN)


def who_showed(secret: str, program: subprocess.Popen[bytes]) -> set[str]:
    """Processes that had it among their words while the program ran, which is over now."""
    seen: set[str] = set()
    eventually(lambda: seen.update(who_shows(secret)) or program.poll() is not None, 300, 0.02)
    return seen


def who_shows(secret: str) -> set[str]:
    """Processes, here and on the hosts, with it among their words."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if secret.encode() in (process / "cmdline").read_bytes():
                found.add(process.name)
        except OSError:
            continue
    return found
