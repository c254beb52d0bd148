"""A host to deploy to: this machine in namespaces of its own. Needs root.

It has its own network (a pair of veth), processes, host name, and folders for what a host keeps: copies or empty ones,
so users and services that are made in it leave no trace outside. The programs are those of this machine. When its first
process ends, the kernel ends all others.
"""

import json
import os
import shlex
import socket
import subprocess
from pathlib import Path
from typing import Any

from tests.servers import CHANCE, eventually

# $1: the folder on this machine that holds what differs. Runs as process 1 of the host.
BOOT = r"""
set -e
mount --make-rprivate /
mkdir -p "$1/var/lib/dpkg"
mount -o bind,ro /var/lib/dpkg "$1/var/lib/dpkg" # it knows the programs, which are this machine's
for folder in etc srv home var/lib var/log var/mail; do
    mkdir -p "$1/$folder"
    mount --rbind "$1/$folder" "/$folder"
done
mount -t tmpfs -o mode=755 tmpfs /run
mount -t proc proc /proc
hostname "$2"
mkdir -p /run/sshd /run/lock /var/log/nginx
ip link set lo up
echo here >"$1/wants-network"
until ip link show "$3" >/dev/null 2>&1; do sleep 0.01; done
ip addr add "$4" dev "$3"
ip link set "$3" up
if [ -n "$5" ]; then
    for script in /etc/rc2.d/S*nginx /etc/rc2.d/S*sandbox; do
        "$script" start </dev/null >>/var/log/boot 2>&1 || true
    done
fi
/usr/sbin/sshd -D -e -f /etc/ssh/test_config &
wait $! # and, as process 1, for what has lost its parent
"""

SSHD = """\
Port 22
ListenAddress {address}
HostKey /etc/ssh/test_key
AuthorizedKeysFile /etc/ssh/test_authorized
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
StrictModes no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
"""

# $1: a folder; $2: the one above it that is closed, and is empty in the host but for this.
LEND = """
mkdir /run/lent
mount --bind "$1" /run/lent
mount -t tmpfs -o mode=755 tmpfs "$2"
mkdir -p "$1"
mount --move /run/lent "$1"
"""

COPIED_STATE = ("update-rc.d", "insserv", "nginx", "pam", "systemd")


class TestHost:
    __test__ = False

    def __init__(self, folder: Path, name: str = "host") -> None:
        self.name = name
        self.folder = folder / name
        number = CHANCE.randrange(1, 16_000)
        network = f"10.{193 + number // 4096}.{number % 4096 // 16}"
        self._there, self._here = (f"{network}.{number % 16 * 4 + last}" for last in (1, 2))
        self._links = (f"vh{number}a", f"vh{number}b")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return self._there

    @property
    def gateway(self) -> str:
        """This machine's address, as the host sees it."""
        return self._here

    def make(self, key: Path) -> "TestHost":
        """Its disk: what a fresh installation has."""
        self.folder.mkdir(parents=True)
        _run("cp", "-a", "/etc", self.folder / "etc")
        (self.folder / "var" / "lib").mkdir(parents=True)
        for name in COPIED_STATE:
            if Path("/var/lib", name).exists():
                _run("cp", "-a", f"/var/lib/{name}", self.folder / "var" / "lib")
        ssh = self.folder / "etc" / "ssh"
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh / "test_key")
        (ssh / "test_authorized").write_text(key.with_suffix(".pub").read_text())
        return self

    def copy_of(self, other: "TestHost") -> "TestHost":
        """Its disk is that of another, which is not running. What a deploy never changes in place is linked."""
        self.folder.mkdir(parents=True)
        for name in ("etc", "home", "var"):
            _run("cp", "-a", other.folder / name, self.folder)
        (self.folder / "srv").mkdir()
        _run("cp", "-al", other.folder / "srv" / "sandbox", self.folder / "srv")
        for file in (other.folder / "srv" / "sandbox" / "shared").iterdir():
            if file.is_file():
                _run("cp", "-a", "--remove-destination", file, self.folder / "srv" / "sandbox" / "shared")
        return self

    @property
    def known_host(self) -> str:
        return f"{self._there} {(self.folder / 'etc' / 'ssh' / 'test_key.pub').read_text()}"

    def boot(self, *, services: bool = False) -> "TestHost":
        """With `services`, what starts by init.d at a boot is started."""
        (self.folder / "wants-network").unlink(missing_ok=True)
        (self.folder / "etc" / "ssh" / "test_config").write_text(SSHD.format(address=self._there))
        shell = ("bash", "-c", BOOT, "init", self.folder, self.name, self._links[1], f"{self._there}/30")
        with (self.folder / "console").open("ab") as console:
            self._process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL"),  # it ends with the tests, whatever ends them
                    *("unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--kill-child"),
                    *(*shell, "services" if services else ""),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        eventually((self.folder / "wants-network").exists)
        _run("ip", "link", "add", self._links[0], "type", "veth", "peer", self._links[1], "netns", str(self.first))
        _run("ip", "addr", "add", f"{self._here}/30", "dev", self._links[0])
        _run("ip", "link", "set", self._links[0], "up")
        eventually(lambda: b"SSH" in self._greeting(), 60)
        return self

    def _greeting(self) -> bytes:
        try:
            with socket.create_connection((self._there, 22), 1) as connection:
                return connection.recv(10)
        except OSError:
            return b""

    @property
    def first(self) -> int:
        """The host's process 1, by its number here."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return int(eventually(lambda: children.read_text().split())[0])

    def run(self, *words: str | Path, check: bool = True, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """A command in the host, as root. In a session of its own: a `kill 0` would meet the tests."""
        inside = ("nsenter", "--target", str(self.first), "--all", *map(str, words))
        done = subprocess.run(
            inside, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False,
            start_new_session=True,
        )  # fmt: skip
        assert done.returncode == 0 or not check, f"{shlex.join(map(str, words))}\n{done.stdout}{done.stderr}"
        return done

    def sh(self, script: str, *, check: bool = True) -> str:
        return self.run("sh", "-c", script, check=check).stdout.strip()

    def lend(self, folder: Path) -> None:
        """Every user of the host may read this folder of this machine, also if it is one person's here."""
        closed = [each for each in folder.parents if not each.stat().st_mode & 1]
        if closed:
            self.run("bash", "-euc", LEND, "lend", folder, closed[-1])

    def cut(self) -> None:
        """The link is dead, and nobody is told."""
        _run("nsenter", "--target", str(self.first), "--net", "ip", "link", "set", self._links[1], "down")

    def mend(self) -> None:
        _run("nsenter", "--target", str(self.first), "--net", "ip", "link", "set", self._links[1], "up")

    def kill(self) -> None:
        """The power goes: every process at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            eventually(lambda: not Path("/sys/class/net", self._links[0]).exists() or self._drop_link(), 10)

    def _drop_link(self) -> bool:
        return subprocess.run(["ip", "link", "del", self._links[0]], capture_output=True, check=False).returncode == 0

    def runs(self, script: str) -> bool:
        """Does a process of this host run this script of deploy/remote?"""
        space = os.readlink(f"/proc/{self.first}/ns/pid")
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
                if script.encode() in words and os.readlink(process / "ns" / "pid") == space:
                    return True
            except OSError:
                continue
        return False

    # --- what is looked at ------------------------------------------------------------------------

    @property
    def current(self) -> str | None:
        link = self.folder / "srv" / "sandbox" / "current"
        return os.readlink(link).rpartition("/")[2] if link.is_symlink() else None

    @property
    def is_on_a_complete_release(self) -> bool:
        return (self.folder / "srv/sandbox/releases" / str(self.current) / ".complete").exists()

    def deploys(self) -> list[dict[str, Any]]:
        """The lines of deploys.jsonl."""
        lines = (self.folder / "srv" / "sandbox" / "shared" / "deploys.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def releases(self) -> dict[str, str]:
        """Each release's state."""
        return {
            release.name: "bad"
            if (release / ".bad").exists()
            else "good"
            if (release / ".complete").exists()
            else "unfinished"
            for release in sorted((self.folder / "srv" / "sandbox" / "releases").glob("*"))
        }


def _run(*words: str | Path) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
