"""The web process: behind a socket of the caller's, as long as the caller lives."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.servers import BUSY, eventually
from tests.workspaces.steward.stage import BASE, GIVE, KEEP, MINE, NEIGHBOURS, PROGRAM, StewardHost

SOCKET = f"{BASE}/sockets/{MINE}.sock"
SERVER = """
import contextlib, http.server, os, signal, socket, subprocess, sys, time
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = f"{os.getuid()} {os.environ['GREETING']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
print("begins", flush=True)
with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
    exec(open("give.py").read())
while True:
    with contextlib.suppress(OSError):
        http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Page).serve_forever()
    time.sleep(0.1)
"""
# A neighbour who is at the port before it.
EVE = """
import contextlib, socket
listener = socket.create_server(("127.0.0.1", 8107))
print("listens", flush=True)
while True:
    with contextlib.suppress(OSError), listener.accept()[0] as connection:
        print("met", flush=True)
        connection.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\neve")
"""
# As circusd does: a listening socket that outlives the process.
HOLDER = f"""
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind({SOCKET!r})
os.chmod({SOCKET!r}, 0o770)
listener.listen(16)
listener.set_inheritable(True)
while True:
    child = os.fork()
    if child == 0:
        words = [sys.executable, "-I", {PROGRAM!r}, "web", {MINE!r}, str(listener.fileno()), "8107"]
        os.execv(sys.executable, words)
    open("/run/holder", "w").write(str(child))
    os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def project(host: StewardHost) -> StewardHost:
    host.project(**{"server.py": SERVER, "give.py": GIVE, "Procfile": "web: python server.py\n"})
    host.build()
    host.do("write_env", values={"GREETING": "good day"})
    for step in (("venv", "1", "python3"), ("freeze", "1"), ("switch", "1")):
        output, last = host.run(*step, seconds=120 * BUSY)
        assert last == {"exit": 0}, output
    host.do("grant", login="jo")
    return host


@contextmanager
def served(host: StewardHost) -> Iterator[None]:
    inside = ("nsenter", "--target", str(host.host.first), "--all", "setpriv", "--pdeathsig=KILL")
    holder = subprocess.Popen([*inside, "/usr/bin/python3", "-I", "-c", HOLDER], stdin=subprocess.DEVNULL)
    try:
        eventually(host.path(SOCKET).exists, 30 * BUSY)
        yield
    finally:
        holder.kill()
        holder.wait()
        host.host.sh(f"kill -9 $(cat /run/holder); rm -f {SOCKET}", check=False)
        eventually(lambda: host.do("processes") == [], 30 * BUSY)


WORDS = ("curl", "-s", "--max-time", str(60 * BUSY), "--unix-socket", SOCKET, "http://x/")


def page(host: StewardHost) -> str:
    return host.host.run(*WORDS, check=False, seconds=120 * BUSY).stdout


def test_it_answers_as_the_workspaces_user_with_its_settings(project: StewardHost) -> None:
    with served(project):
        eventually(lambda: project.do("status")["state"] == "active", 30 * BUSY)
        assert page(project) == f"{project.uid()} good day"
        eventually(lambda: project.do("log")[:1] == ["begins"], 30 * BUSY)
        assert project.do("last_used")


def test_a_member_restarts_it_and_no_client_is_refused(project: StewardHost) -> None:
    with served(project):
        assert page(project)
        before = project.do("status")
        assert project.ask("restart", user="jo", slug=MINE)["done"] is None
        assert page(project) == f"{project.uid()} good day"
        eventually(lambda: project.do("status").get("pid") not in (None, 0, before["pid"]), 30 * BUSY)


def test_it_ends_with_who_has_started_it(project: StewardHost) -> None:
    with served(project):
        assert page(project)
        project.host.sh("kill -STOP $(pgrep -f 'os.execv' | head -1)")  # it starts no other one
        project.host.sh("kill -9 $(cat /run/holder)")
        eventually(lambda: project.do("processes") == [], 30 * BUSY)
        eventually(lambda: project.do("status")["state"] == "stopped", 30 * BUSY)


def test_its_end_in_order_is_a_term_first(project: StewardHost) -> None:
    with served(project):
        assert page(project)
        child = int(project.host.sh("cat /run/holder"))
        project.host.sh("kill -STOP $(pgrep -f 'os.execv' | head -1)")
        project.host.sh(f"kill -TERM {child}")
        eventually(lambda: project.do("status")["state"] == "stopped", 30 * BUSY)
        assert project.do("processes") == []


def test_a_stopped_steward_leaves_no_web_process(project: StewardHost) -> None:
    with served(project):
        assert page(project)
        project.stop_steward("TERM")
        assert project.host.sh(f"pgrep -u {project.uid()}", check=False) == ""
        project.start_steward()
        assert page(project) == f"{project.uid()} good day"


def test_who_keeps_what_it_writes_to_does_not_keep_its_place(project: StewardHost) -> None:
    with served(project), project.running(KEEP, MINE) as said:
        assert page(project)
        project.do("restart")  # now there is somebody to give it to
        eventually(lambda: "keeps" in said.read_text(), 30 * BUSY)
        assert page(project)
        holder = project.host.sh("pgrep -f 'os.execv' | head -1")
        project.host.sh(f"kill -STOP {holder}")
        pid = eventually(lambda: project.do("status").get("pid"), 30 * BUSY)  # 0 while it begins
        project.host.sh(f"kill -9 {pid}")
        eventually(lambda: project.do("status")["state"] == "stopped", 30 * BUSY)
        project.host.sh(f"kill -CONT {holder}")
        assert page(project) == f"{project.uid()} good day"
        assert project.do("status")["state"] == "active"


def test_a_neighbour_at_its_port_gets_nothing_of_its_visitors(project: StewardHost) -> None:
    project.do("make_user", NEIGHBOURS)
    inside = ("nsenter", "--target", str(project.host.first), "--all", "setpriv", "--pdeathsig=KILL")
    with project.running(EVE, NEIGHBOURS) as said, served(project):
        visitor = subprocess.Popen([*inside, *WORDS], stdout=subprocess.PIPE)
        eventually(lambda: "met" in said.read_text(), 60 * BUSY)
        project.do("kill", NEIGHBOURS)
        assert visitor.communicate()[0].decode() == f"{project.uid()} good day"
