"""The mirror over a real sshd: by its deploy key alone, and never further than the service."""

import getpass
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.workspaces.mirror import GitFailed, Mirror, Origin
from tests.servers import eventually, free_port
from tests.workspaces.conftest import small_project
from tests.workspaces.yard import git, make_origin

CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/key.pub
PidFile {folder}/sshd.pid
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
"""


class Speaker:
    """As a task's context, without the task."""

    def log(self, text: str) -> None: ...

    def run(self, command: list[str], **options: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def origin(folder: Path) -> Iterator[Origin]:
    port = free_port()
    for name in ("host", "key"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True)
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "config").write_text(CONFIG.format(port=port, folder=folder))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    sshd = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "config")], stderr=subprocess.DEVNULL)
    eventually((folder / "sshd.pid").exists)
    bare = make_origin(folder, small_project(folder))
    yield Origin(f"ssh://{getpass.getuser()}@127.0.0.1:{port}{bare}", folder / "key")
    sshd.terminate()
    sshd.wait(10)


def test_a_branch_is_pushed_and_taken_away_only_as_it_was_pushed(origin: Origin, folder: Path) -> None:
    mirror, told = Mirror(folder / "mirror.git", origin), Speaker()
    mirror.fetch(told)
    sha = mirror.main_sha(told)
    assert mirror.tip(told, "jo@example.org") == ""
    mirror.push_new(told, "jo@example.org", sha)
    assert mirror.tip(told, "jo@example.org") == sha
    with pytest.raises(GitFailed):
        mirror.remove(told, "jo@example.org", "a" * 40)
    mirror.remove(told, "jo@example.org", sha)
    assert mirror.tip(told, "jo@example.org") == ""


def test_without_the_key_or_a_known_host_nothing_is_read(origin: Origin, folder: Path) -> None:
    (folder / "known_hosts").unlink()
    with pytest.raises(GitFailed, match="Host key verification failed"):
        Mirror(folder / "mirror.git", origin).fetch(Speaker())
    assert not (folder / "mirror.git").exists()


def test_what_a_killed_fetch_left_is_cleared_away(origin: Origin, folder: Path) -> None:
    mirror, told = Mirror(folder / "mirror.git", origin), Speaker()
    (folder / "mirror.git.new").mkdir()
    mirror.fetch(told)
    (folder / "mirror.git" / "packed-refs.lock").touch()
    work = folder / "work"
    git("commit", "--quiet", "--allow-empty", "--message=More", folder=work)
    git("push", "--quiet", "origin", "main", folder=work)
    mirror.fetch(told)
    assert mirror.main_sha(told) == git("rev-parse", "HEAD", folder=work)
