"""What a host's nginx serves workspaces by: a text that root installs."""

import subprocess
from pathlib import Path

import pytest

from service.cli.main import main
from service.workspaces import nginx, supervisor
from service.workspaces.places import Places
from tests.servers import free_port

CONF = """
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
    (folder / "workspaces.conf").write_text(text)
    (folder / "nginx.conf").write_text(CONF.format(folder=folder, port=port))
    words = [supervisor.own_nginx(), "-t", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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
