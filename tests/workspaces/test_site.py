"""What a host's nginx serves workspaces by: a text that root installs."""

import getpass
import http.client
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from service.cli.main import main
from service.workspaces import nginx, supervisor
from service.workspaces.places import Places
from service.workspaces.record import Workspace
from tests.servers import eventually, free_port

SLUG = "w-jo-aaaaaaaa"
OWN = "server {{ listen {port} default_server; return 404; }}"
CONF = """
daemon off;
user {user};
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    {own}
    include {folder}/workspaces.conf;
}}
"""


def configured(folder: Path, port: int, text: str, *, is_default: bool = True) -> list[str]:
    """The command of an nginx that serves this text beside its own default server."""
    (folder / "workspaces.conf").write_text(text)
    (folder / "nginx.conf").write_text(
        CONF.format(folder=folder, own=OWN.format(port=port) if is_default else "", user=getpass.getuser())
    )
    return [supervisor.own_nginx(), "-p", str(folder), "-c", str(folder / "nginx.conf")]


@contextmanager
def served(folder: Path, port: int, text: str, *, is_default: bool = True) -> Iterator[None]:
    with subprocess.Popen(configured(folder, port, text, is_default=is_default)) as process:
        try:
            eventually(lambda: (folder / "nginx.pid").exists())
            yield
        finally:
            process.terminate()


def get(port: int, path: str, host: str = f"{SLUG}.work.example.org", **headers: str) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path, headers={"Host": host, **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()


def printed(domain: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    monkeypatch.setenv("SANDBOX_WORKSPACE_DOMAIN", domain)
    monkeypatch.setenv("SANDBOX_WORKSPACES", "/srv/ws")
    return main(["workspace", "site"]), *capsys.readouterr()


def test_it_stands_beside_a_default_server_of_the_hosts_nginx(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    code, text, _ = printed(f"work.example.org:{port}", monkeypatch, capsys)
    assert code == 0 and "proxy_pass http://unix:/srv/ws/sockets/$workspace.sock;" in text
    done = subprocess.run([*configured(folder, port, text), "-t"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_workspace_shows_no_file_by_a_link_wherever_the_link_lies(folder: Path) -> None:
    port, places = free_port(), Places.under(folder / "ws")
    home, of_nginx = places.home(SLUG), folder / "of-nginx"
    for kept in (home.static, places.shared_media, of_nginx):
        kept.mkdir(parents=True)
        (kept / "file").write_text(kept.name)
    home.media.symlink_to(places.shared_media)
    (home.static / "link").symlink_to(of_nginx / "file")
    with served(folder, port, nginx.Addresses.at(f"work.example.org:{port}", "").text(places)):
        assert (get(port, "/static/file"), get(port, "/media/file")) == ((200, b"static"), (200, b"media"))
        assert get(port, "/static/link")[0] == 403
        for name in (home.static, home.data):
            shutil.rmtree(name)
            name.symlink_to(of_nginx)
            (of_nginx / "static").mkdir(exist_ok=True)
            (of_nginx / "static" / "file").write_text("of nginx")
            assert get(port, "/static/file")[0] in (403, 404)


@pytest.mark.parametrize("domain", ["work.example.org", "localhost"])
def test_a_name_that_is_no_workspaces_is_told_so(folder: Path, domain: str) -> None:
    port, places = free_port(), Places.under(folder / "ws")
    site = nginx.Addresses.at(f"{domain}:{port}", supervisor.own_nginx())
    nginx.write_page(places, Workspace(SLUG, "jo@example.org", "jo", state="asleep"))
    with served(folder, port, site.text(places), is_default=not site.is_local):
        assert get(port, "/", f"w-al-bbbbbbbb.{domain}")[0] == 421
        for other in ("x", f"x.{SLUG}", "W_", "w-"):
            assert get(port, "/", f"{other}.{domain}")[0] == 421, other
        status, page = get(port, "/", f"{SLUG}.{domain}:{port}")
        assert status == 502 and b"It is asleep" in page
        assert get(port, "/", domain)[0] == 421
        if not site.is_local:
            assert get(port, "/", "example.org")[0] == 404  # the host's own


@pytest.mark.parametrize(
    ("domain", "said", "told"),
    [("work.example.org", "", "https"), ("work.example.org", "https", "https"), ("work.example.org", "http", "http"),
     ("localhost", "", "http")],
)  # fmt: skip
def test_a_workspace_is_told_the_scheme_of_its_visitor(folder: Path, domain: str, said: str, told: str) -> None:
    """TLS may end in front of nginx."""
    port, places = free_port(), Places.under(folder / "ws")
    site = nginx.Addresses.at(f"{domain}:{port}", supervisor.own_nginx())
    places.sockets.mkdir(parents=True)
    with (
        socket.socket(socket.AF_UNIX) as listener,
        served(folder, port, site.text(places), is_default=not site.is_local),
    ):
        listener.bind(str(places.socket(SLUG)))
        listener.listen()
        with ThreadPoolExecutor(1) as threads:
            answered = threads.submit(answer, listener)
            get(port, "/", f"{SLUG}.{domain}", **{"X-Forwarded-Proto": said} if said else {})
            assert f"\r\nX-Forwarded-Proto: {told}\r\n" in answered.result()


def answer(listener: socket.socket) -> str:
    """What it was asked."""
    with listener.accept()[0] as connection:
        asked = connection.recv(65536).decode()
        connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        return asked


@pytest.mark.parametrize(
    ("domain", "program", "address"),
    [
        ("localhost:8090", "/usr/sbin/nginx", f"http://{SLUG}.localhost:8090/"),
        ("localhost:8090", "", "http://127.0.0.1:20000/"),
        ("127.0.0.1", "/usr/sbin/nginx", "http://127.0.0.1:20000/"),
        ("work.example.org", "", f"https://{SLUG}.work.example.org/"),
    ],
)
def test_a_workspace_has_a_name_or_a_port(domain: str, program: str, address: str) -> None:
    site = nginx.Addresses.at(domain, program)
    assert site.address(SLUG, 20000) == address
    assert bool(site.program) == ("localhost:" in address)


@pytest.mark.parametrize("domain", ["localhost:8090", "127.0.0.1"])
def test_on_ones_own_machine_there_is_nothing_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], domain: str
) -> None:
    code, text, error = printed(domain, monkeypatch, capsys)
    assert code != 0 and text == "" and "no file of the host's is needed" in error


def test_the_services_user_writes_none_for_a_domain(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places.under(folder / "ws")
    web = supervisor.WebProcesses(places, site=nginx.Addresses.at("work.example.org", "/usr/sbin/nginx"), memory_mb=64)
    monkeypatch.setattr(web, "_ensure", lambda: None)
    monkeypatch.setattr(web._circusd, "call", lambda *_, **__: {"status": "ok"})
    web.keep_running("w-jo-aaaaaaaa", 20000)
    assert (places.run / "conf.d" / "w-jo-aaaaaaaa.ini").is_file() and not [*places.run.rglob("site.conf")]
