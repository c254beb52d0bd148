"""The mirror over a real sshd or HTTP: by its deploy key or password alone, and never further than the service."""

import base64
import getpass
import http.server
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from service.workspaces import whose
from service.workspaces.mirror import GitFailed, Mirror, Origin
from tests.servers import BUSY, eventually, free_port
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

    def __init__(self) -> None:
        self.logged = ""

    def log(self, text: str) -> None: ...

    def run(self, command: list[str], **options: object) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)  # type: ignore[call-overload]
        self.logged += done.stdout
        return done  # type: ignore[no-any-return]


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
    assert told.logged == ""  # refs and commits are answers, and no news for a person
    with pytest.raises(GitFailed):
        mirror.remove(told, "jo@example.org", "a" * 40)
    mirror.remove(told, "jo@example.org", sha)
    assert mirror.tip(told, "jo@example.org") == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as another user")
def test_a_private_mirror_is_read_and_its_lock_held_by_its_owner_alone(origin: Origin, folder: Path) -> None:
    """Also one that everybody could read and hold."""
    folder.chmod(0o755)
    lock = folder / ".mirror.lock"
    lock.touch()
    Mirror(folder / "mirror.git", origin).fetch(Speaker())
    assert as_nobody("cat", str(folder / "mirror.git" / "HEAD")) == 0  # workspaces with users of their own read it
    assert lock.stat().st_mode & 0o777 == 0o600
    Mirror(folder / "mirror.git", origin, read_by_others=False).fetch(Speaker())
    assert as_nobody("cat", str(folder / "mirror.git" / "HEAD")) != 0


def as_nobody(*words: str) -> int:
    command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *words]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode


def test_without_the_key_or_a_known_host_nothing_is_read(origin: Origin, folder: Path) -> None:
    (folder / "known_hosts").unlink()
    with pytest.raises(GitFailed, match="Host key verification failed"):
        Mirror(folder / "mirror.git", origin).fetch(Speaker())
    assert not (folder / "mirror.git").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder away")
def test_a_repository_of_another_user_is_refused_with_a_way_out(folder: Path) -> None:
    bare = make_origin(folder, small_project(folder))
    os.chown(bare, 70_001, 70_001)
    with pytest.raises(GitFailed, match=f"{bare} is another user's.* lead to it by ssh"):
        Mirror(folder / "mirror.git", Origin(str(bare))).fetch(Speaker())


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


def test_a_fetch_ends_nothing_of_another_builders_push(folder: Path) -> None:
    bare = make_origin(folder, small_project(folder))
    mirror, told = Mirror(folder / "mirror.git", Origin(str(bare))), Speaker()
    mirror.fetch(told)
    hook, gate = bare / "hooks" / "pre-receive", folder / "gate"
    hook.write_text(f"#!/bin/sh\ntouch {folder}/pushing\nuntil [ -e {gate} ]; do sleep 0.05; done\n")
    hook.chmod(0o755)
    with ThreadPoolExecutor(1) as other:
        push = other.submit(mirror.push_new, told, "jo@example.org", mirror.main_sha(told))
        eventually((folder / "pushing").exists)
        mirror.fetch(told)
        gate.touch()
        push.result(60)
    assert mirror.tip(told, "jo@example.org")


def test_what_a_killed_fetch_left_running_is_ended(origin: Origin, folder: Path) -> None:
    mirror = Mirror(folder / "mirror.git", origin)
    mirror.fetch(Speaker())
    in_a_turn = os.environ | {whose.MARK: str(mirror._turns)}
    with subprocess.Popen(["sleep", "600"], env=in_a_turn) as left:
        mirror.fetch(Speaker())
        assert left.wait(10 * BUSY) == -signal.SIGKILL


# --- a password in the URL ----------------------------------------------------------------------------

NAME, PASSWORD = "deploy", "s3/cret@%word"


class Forge(http.server.BaseHTTPRequestHandler):
    """git's own http-backend, behind a password."""

    folder: Path
    on_command_lines: list[str]  # the password, as any user of the host could read it meanwhile

    def do_GET(self) -> None:
        self.on_command_lines += [each for each in command_lines() if PASSWORD in each or quote(PASSWORD, "") in each]
        wanted = base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()
        if self.headers["Authorization"] != f"Basic {wanted}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        variables = {
            "GIT_PROJECT_ROOT": str(self.folder), "GIT_HTTP_EXPORT_ALL": "1", "REMOTE_USER": NAME, "PATH_INFO": path,
            "QUERY_STRING": query, "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers["Content-Type"] or "",
            "HTTP_CONTENT_ENCODING": self.headers["Content-Encoding"] or "",
        }  # fmt: skip
        sent = self.rfile.read(int(self.headers["Content-Length"] or 0))
        done = subprocess.run(["git", "http-backend"], input=sent, env=os.environ | variables, capture_output=True)
        self.wfile.write(b"HTTP/1.0 200 OK\r\n" + done.stdout)

    do_POST = do_GET

    def log_message(self, *_: object) -> None: ...


def command_lines() -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                yield (entry / "cmdline").read_text(errors="replace")


@pytest.fixture
def forge(folder: Path) -> Iterator[http.server.ThreadingHTTPServer]:
    make_origin(folder, small_project(folder))
    Forge.folder, Forge.on_command_lines = folder, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forge) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


def with_password(forge: http.server.ThreadingHTTPServer) -> Origin:
    return Origin(f"http://{NAME}:{quote(PASSWORD, '')}@127.0.0.1:{forge.server_port}/origin.git")


def holding_the_password(folder: Path) -> list[Path]:
    shown = (PASSWORD.encode(), quote(PASSWORD, "").encode())
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(each in path.read_bytes() for each in shown)]


def test_the_password_is_in_no_file_of_the_mirror_and_on_no_command_line(
    forge: http.server.ThreadingHTTPServer, folder: Path
) -> None:
    mirror, told = Mirror(folder / "mirror.git", with_password(forge)), Speaker()
    git("tag", "first", folder=folder / "origin.git")
    mirror.fetch(told)
    sha = mirror.main_sha(told)
    mirror.push_new(told, "jo@example.org", sha)
    assert mirror.tip(told, "jo@example.org") == sha
    mirror.fetch(told)
    refs = git("for-each-ref", "--format=%(refname)", folder=folder / "mirror.git").split()
    assert refs == ["refs/heads/jo@example.org", "refs/heads/main", "refs/tags/first"]
    mirror.remove(told, "jo@example.org", sha)
    assert holding_the_password(folder / "mirror.git") == [] == Forge.on_command_lines


def test_a_mirror_that_has_the_password_already_loses_it_at_the_next_fetch(
    forge: http.server.ThreadingHTTPServer, folder: Path
) -> None:
    origin, bare = with_password(forge), folder / "origin.git"
    git("clone", "--quiet", "--mirror", "--template=", origin.url, "mirror.git", folder=folder)
    assert holding_the_password(folder / "mirror.git") == [folder / "mirror.git" / "config"]
    git("branch", "--move", "main", "trunk", folder=bare)
    mirror = Mirror(folder / "mirror.git", origin)
    mirror.fetch(Speaker())
    assert holding_the_password(folder / "mirror.git") == []
    assert mirror.main_sha(Speaker()) == git("rev-parse", "trunk", folder=bare)


def test_a_wrong_password_is_refused_and_not_told(forge: http.server.ThreadingHTTPServer, folder: Path) -> None:
    origin = Origin(with_password(forge).url.replace(NAME, "other"))
    with pytest.raises(GitFailed) as refused:
        Mirror(folder / "mirror.git", origin).fetch(Speaker())
    assert "cret" not in str(refused.value) and not (folder / "mirror.git").exists()


def test_what_is_cleared_up_now_and_then_is_done_with_the_turn(folder: Path) -> None:
    bare = make_origin(folder, small_project(folder))
    mirror, told = Mirror(folder / "mirror.git", Origin(str(bare))), Speaker()
    mirror.fetch(told)
    for name, value in (("gc.autoPackLimit", "1"), ("fetch.unpackLimit", "1")):  # as after many fetches
        git("config", name, value, folder=folder / "mirror.git")
    for branch in ("one", "two"):
        git("commit", "--quiet", "--allow-empty", f"--message={branch}", folder=folder / "work")
        git("push", "--quiet", "origin", f"HEAD:refs/heads/{branch}", folder=folder / "work")
        mirror.fetch(told)
    assert whose.marked(mirror._turns) == []
    assert len(list((folder / "mirror.git" / "objects" / "pack").glob("*.pack"))) == 1
