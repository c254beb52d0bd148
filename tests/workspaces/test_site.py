"""What a host's nginx serves workspaces by: a text that root installs."""

import getpass
import http.client
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from service.cli.main import main
from service.workspaces import nginx, supervisor
from service.workspaces.places import Places
from tests.servers import eventually, free_port

SLUG = "w-jo-aaaaaaaa"
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
    server {{ listen {port} default_server; }}
    include {folder}/workspaces.conf;
}}
"""


def configured(folder: Path, port: int, text: str) -> list[str]:
    """The command of an nginx that serves this text beside its own default server."""
    (folder / "workspaces.conf").write_text(text)
    (folder / "nginx.conf").write_text(CONF.format(folder=folder, port=port, user=getpass.getuser()))
    return [supervisor.own_nginx(), "-p", str(folder), "-c", str(folder / "nginx.conf")]


@contextmanager
def served(folder: Path, port: int, text: str) -> Iterator[None]:
    with subprocess.Popen(configured(folder, port, text)) as process:
        try:
            eventually(lambda: (folder / "nginx.pid").exists())
            yield
        finally:
            process.terminate()


def get(port: int, path: str) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path, headers={"Host": f"{SLUG}.work.example.org"})
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


def test_at_localhost_there_is_nothing_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text, error = printed("localhost:8090", monkeypatch, capsys)
    assert code != 0 and text == "" and "no file of the host's is needed" in error


def test_the_services_user_writes_none_for_a_domain(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places.under(folder / "ws")
    web = supervisor.WebProcesses(places, site=nginx.Addresses.at("work.example.org", "/usr/sbin/nginx"), memory_mb=64)
    monkeypatch.setattr(web, "_ensure", lambda: None)
    monkeypatch.setattr(web._circusd, "call", lambda *_, **__: {})
    web.keep_running("w-jo-aaaaaaaa", 20000)
    assert (places.run / "conf.d" / "w-jo-aaaaaaaa.ini").is_file() and not [*places.run.rglob("site.conf")]
