"""Whose the listener is that the launcher passes visitors on to, and what becomes of them when it ends."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from service.workspaces import launch, looking, recipes
from service.workspaces.places import Home
from tests.servers import BUSY, eventually, free_port

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
PORT = 8107


def line(address: str, uid: int, port: int = PORT, state: str = launch.LISTENS) -> str:
    local = f"{launch.as_in_proc(address)}:{port:04X}"
    return f"   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  {uid}        0 7 1 0 100 0\n"


def table(*lines: str) -> str:
    return HEAD + "".join(lines)


@pytest.mark.parametrize(
    ("lines", "whose"),
    [
        ([], set()),
        ([line("127.0.0.1", 70_001)], {70_001}),
        ([line("0.0.0.0", 70_001)], {70_001}),
        ([line("::", 70_001)], {70_001}),
        ([line("::ffff:127.0.0.1", 70_001)], {70_001}),
        ([line("::ffff:0.0.0.0", 70_001)], {70_001}),
        ([line("127.0.0.2", 70_001), line("::1", 70_001)], set()),  # a connection to 127.0.0.1 is not theirs
        ([line("127.0.0.1", 70_001, port=8108)], set()),
        ([line("127.0.0.1", 70_001, state="01")], set()),
        ([line("::", 70_002), line("127.0.0.1", 70_001)], {70_001}),  # the nearer address has it
        ([line("::", 70_002), line("0.0.0.0", 70_001)], {70_001}),
    ],
)
def test_a_listener_is_whose_the_kernel_says(lines: list[str], whose: set[int]) -> None:
    assert launch.owners(PORT, table(*lines)) == whose


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"])
def test_ones_own_listener_is_found(address: str) -> None:
    port = free_port()
    assert not launch.is_own(port)
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as listener:
        if ":" in address:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((address, port))
        assert not launch.is_own(port)
        listener.listen()
        assert launch.is_own(port)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes others")
def test_a_neighbours_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    os.seteuid(70_001)
    try:
        listener = socket.create_server(("127.0.0.1", port))
    finally:
        os.seteuid(0)
    with listener:
        assert launch.owners(port, Path("/proc/net/tcp").read_text()) == {70_001}
        assert not launch.is_own(port)
        monkeypatch.setattr(os, "getuid", lambda: 70_001)
        assert launch.is_own(port)


# Whoever asks for /slow gets the first half of the answer when the file `go` is there, the rest a little later.
SERVER = """
import http.server, os, pathlib, time
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        pathlib.Path("asked").touch()
        while self.path == "/slow" and not pathlib.Path("go").exists():
            time.sleep(0.01)
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"well")
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Page).serve_forever()
"""


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_at_its_end_who_has_asked_is_answered_and_who_comes_waits(
    tmp_path: Path, folder: Path, family: socket.AddressFamily
) -> None:
    """A server that ends at once, as most do."""
    code = tmp_path / "code"
    for folder in (code, tmp_path / "log", tmp_path / "data"):
        folder.mkdir()
    (code / "server.py").write_text(SERVER)
    (code / "Procfile").write_text(f"web: exec {sys.executable} server.py\n")
    patient = tmp_path / "launch.py"
    text = Path(launch.__file__).read_text()
    for name in ("ANSWER", "TERM"):
        text = text.replace(f"{name}_SECONDS = ", f"{name}_SECONDS = {20 * BUSY} or ")
    patient.write_text(text)
    path = folder / "web.sock"
    with socket.socket(family) as listener:
        listener.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(path))
        listener.listen()
        address = listener.getsockname()
        words = [sys.executable, str(patient), str(tmp_path), str(listener.fileno()), str(free_port())]

        def started() -> "subprocess.Popen[bytes]":
            return subprocess.Popen(words, pass_fds=[listener.fileno()])

        def asks(path: str) -> socket.socket:
            client = socket.socket(family)
            client.settimeout(60 * BUSY)
            client.connect(address)
            client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            return client

        def answer(client: socket.socket) -> bytes:
            with client, client.makefile("rb") as file:
                return file.read()

        first = started()
        try:
            slow = asks("/slow")
            eventually((code / "asked").exists, 30 * BUSY)
            first.terminate()
            eventually(lambda: signals_pending(first.pid) == 0)
            late = asks("/late")
            (code / "go").touch()
            assert answer(slow).endswith(b"well")
            first.wait(30 * BUSY)
        finally:
            first.kill()
        assert family == socket.AF_INET or path.is_socket(), "it is the supervisor's"
        second = started()
        try:
            assert answer(late).endswith(b"well")
        finally:
            second.terminate()
            second.wait(30 * BUSY)


def signals_pending(pid: int) -> int:
    [line] = [each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("ShdPnd:")]
    return int(line.split()[1], 16)


def test_what_is_left_of_a_workspace_is_ended_before_any_kind_of_server_begins(tmp_path: Path) -> None:
    for folder in ("code", "log", "data", "venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "code" / "Procfile").write_text("web: gunicorn shop\n")
    gunicorn = tmp_path / "venv" / "bin" / "gunicorn"
    gunicorn.write_text("#!/bin/sh\necho begun\n")
    gunicorn.chmod(0o755)
    marks = {"SANDBOX_WORKSPACE_HOME": str(tmp_path), "SANDBOX_WORKSPACE_WEB": "1"}
    neighbours = marks | {"SANDBOX_WORKSPACE_HOME": f"{tmp_path}2"}
    left, other = (subprocess.Popen(["sleep", "600"], env=os.environ | each) for each in (marks, neighbours))
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            words = [sys.executable, launch.__file__, str(tmp_path), str(listener.fileno()), "0"]
            done = subprocess.run(words, pass_fds=[listener.fileno()], stdout=subprocess.PIPE, timeout=60 * BUSY)
        assert done.stdout == b"begun\n" and left.wait(0) == -signal.SIGKILL and other.poll() is None
    finally:
        for process in (left, other):
            process.kill()
            process.wait()


SAYS_HI = """
def app(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"hi"]
"""


@pytest.mark.parametrize("command", ["gunicorn app:app", "gunicorn --access-logfile - app:app # as elsewhere"])
def test_when_gunicorn_was_last_asked_is_seen_whatever_its_command_says_of_logs(tmp_path: Path, command: str) -> None:
    home = tmp_path / "a home"
    for folder in ("code", "log", "data", "venv/bin"):
        (home / folder).mkdir(parents=True)
    (home / "code" / "Procfile").write_text(f"web: {command}\n")
    (home / "code" / "app.py").write_text(SAYS_HI)
    (home / "venv" / "bin" / "gunicorn").symlink_to(Path(sys.executable).with_name("gunicorn"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        words = [sys.executable, launch.__file__, str(home), str(listener.fileno()), "0"]
        server = subprocess.Popen(words, pass_fds=[listener.fileno()], start_new_session=True)
        try:
            port = listener.getsockname()[1]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60 * BUSY) as answer:
                assert answer.read() == b"hi"
            eventually(lambda: looking.last_used(Home(home)), 30 * BUSY)
        finally:
            server.terminate()
            server.wait(60 * BUSY)


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """The home of one that gunicorn serves."""
    for folder in ("code/templates", "log", "data", "venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "code" / "wsgi.py").write_text(SAYS_HI.replace("def app(", "def application("))
    (tmp_path / "venv" / "bin" / "gunicorn").symlink_to(Path(sys.executable).with_name("gunicorn"))
    return tmp_path


def addresses_while_it_serves(home: Path) -> set[str]:
    """At which something listens at its own port."""
    own = free_port()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        words = [sys.executable, launch.__file__, str(home), str(listener.fileno()), str(own)]
        server = subprocess.Popen(words, pass_fds=[listener.fileno()], start_new_session=True)
        try:
            port = listener.getsockname()[1]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60 * BUSY) as answer:
                assert answer.read() == b"hi"
            table = Path("/proc/net/tcp").read_text()
            return {each for each in launch.TAKING if f" {launch.as_in_proc(each)}:{own:04X} " in table}
        finally:
            server.terminate()
            server.wait(60 * BUSY)


@pytest.mark.parametrize("name", ["terms & conditions.html", "what's new; a>b.html"])
def test_gunicorn_gets_the_socket_whatever_the_names_of_templates_are(application: Path, name: str) -> None:
    (application / "code" / "templates" / name).touch()
    assert addresses_while_it_serves(application) == set()


def test_a_gunicorn_that_something_else_starts_is_reached_from_this_host_alone(application: Path) -> None:
    (application / "code" / "Procfile").write_text("web: true && gunicorn wsgi\n")
    (application / ".env").write_text("GUNICORN_CMD_ARGS=--threads=2\n")
    assert addresses_while_it_serves(application) == {"127.0.0.1"}


def test_an_access_log_that_has_grown_large_begins_anew_at_a_start(tmp_path: Path) -> None:
    for folder in ("code", "log", "data"):
        (tmp_path / folder).mkdir()
    (tmp_path / "code" / "Procfile").write_text("web: true\n")
    log = tmp_path / "log" / "access.log"
    for size, left in ((1_000_000, 1_000_000), (1_000_001, 0)):
        log.write_bytes(bytes(size))
        os.utime(log, (1, 1))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            words = [sys.executable, launch.__file__, str(tmp_path), str(listener.fileno()), "0"]
            subprocess.run(words, pass_fds=[listener.fileno()], timeout=60 * BUSY, check=True)
        assert (log.stat().st_size, looking.last_used(Home(tmp_path))) == (left, 1)


# Goes on in one more process as soon as another one has ended.
GOES_ON = """
import os, sys, time
print(end="begun", flush=True)
while open(f"/proc/{sys.argv[1]}/environ").read():
    pass
os.fork()
time.sleep(600)
"""


def test_what_goes_on_while_the_left_are_ended_is_ended_too(tmp_path: Path) -> None:
    marks = {"SANDBOX_WORKSPACE_HOME": str(tmp_path), "SANDBOX_WORKSPACE_WEB": "1"}
    many = [subprocess.Popen(["sleep", "600"], env=os.environ | marks) for _ in range(50)]
    words = [sys.executable, "-c", GOES_ON, str(many[0].pid)]
    last = subprocess.Popen(words, env=os.environ | marks, stdout=subprocess.PIPE)
    try:
        assert last.stdout is not None and last.stdout.read(5) == b"begun"
        launch.end_what_is_left(marks)
        assert launch.what_is_left(marks) == []
    finally:
        for process in (*many, last):
            process.kill()
            process.wait()
        last.stdout.close()


def test_an_empty_line_of_a_procfile_does_not_begin_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("Procfile").write_text("web:\nworker: python work.py\ntest: \nweb2: python web.py\n")
    assert launch.web_command(tmp_path) is None
    assert recipes.TEST_BY_PROCFILE.search(Path("Procfile").read_text()) is None
