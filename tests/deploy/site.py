"""A site of deploy/templates in a real nginx on loopback: as it is rendered, but for ports and folders."""

import getpass
import http.client
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import trustme

from rollout import stage, templates
from tests.deploy.project import DOMAIN
from tests.servers import eventually, free_port
from tests.system.instance import ROOT

# What Debian's nginx.conf has, and what would let the oldest clients in if a site did not forbid it. Another site comes
# first.
AROUND = """
user {user};
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
events {{ }}
http {{
    access_log off;
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;
    ssl_ciphers DEFAULT:@SECLEVEL=0;
    gzip on;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{plain}; listen [::1]:{plain}; listen 127.0.0.1:{secure} ssl; listen [::1]:{secure} ssl;
        server_name first.example.com;
        ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
        return 200 first;
    }}
    {site}
}}
"""
CA = trustme.CA()
CERTIFICATE = CA.issue_cert(DOMAIN)
TRUSTING, TRUSTING_ANY_NAME = (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) for _ in range(2))
TRUSTING_ANY_NAME.check_hostname = False
for context in (TRUSTING, TRUSTING_ANY_NAME):
    CA.configure_trust(context)


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Site:
    def __init__(self, folder: Path, *, hosts: tuple[str, ...] = ("root@host",), **keys: Any) -> None:
        """`keys` are of the stage."""
        folder.mkdir()
        self.folder = folder
        self.socket = folder / "web.sock"
        self.plain, self.secure = free_port(), free_port()
        self._hosts = hosts
        self._process: subprocess.Popen[bytes] | None = None
        shutil.copytree(ROOT / "deploy" / "templates", folder / "deploy" / "templates")
        self.configure(**keys)
        CERTIFICATE.private_key_pem.write_to_path(folder / "key.pem")
        CERTIFICATE.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        CA.cert_pem.write_to_path(folder / "ca.pem")

    def configure(self, **keys: Any) -> None:
        lines = {
            "hosts": list(self._hosts),
            "domain": DOMAIN,
            "certificate": str(self.folder / "cert.pem"),
            "certificate_key": str(self.folder / "key.pem"),
            **keys,
        }
        deploy = self.folder / "deploy"
        (deploy / "stages").mkdir(exist_ok=True)
        (deploy / "deploy.toml").write_text(f'[environment]\nSANDBOX_BIND = "unix:{self.socket}"\n')
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items())
        (deploy / "stages" / "test.toml").write_text(text)

    @property
    def read(self) -> stage.Stage:
        return stage.read(self.folder / "deploy", "test")

    @property
    def rendered(self) -> str:
        [file] = [file for file in templates.files(self.read, {}) if "nginx" in file.path]
        return file.content

    def start(self, text: str = "", **instead: str) -> "Site":
        """With these texts in the place of others."""
        text = text or self.rendered
        places = {
            "/var/log/nginx/": f"{self.folder}/",
            "listen [::]:80": f"listen [::1]:{self.plain}",
            "listen [::]:443": f"listen [::1]:{self.secure}",
            "listen 80": f"listen 127.0.0.1:{self.plain}",
            "listen 443": f"listen 127.0.0.1:{self.secure}",
            **instead,
        }
        for old, new in places.items():
            assert old in text, old
            text = text.replace(old, new)
        for old, new in {"/srv/sandbox/current": "current", "/var/lib/nginx/sandbox": "cache"}.items():
            text = text.replace(old, str(self.folder / new))
        return self._run(text)

    def _run(self, text: str) -> "Site":
        file = self.folder / "nginx.conf"
        places = {"folder": self.folder, "plain": self.plain, "secure": self.secure}
        file.write_text(AROUND.format(user=getpass.getuser(), site=text, **places))
        program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin") or "nginx"
        with (self.folder / "said").open("wb") as said:
            self._process = subprocess.Popen([program, "-p", str(self.folder), "-c", str(file)], stderr=said)
        eventually(self._listens, 30)
        return self

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "said").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.secure)) == 0

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    # --- a client ---------------------------------------------------------------------------------

    def connection(
        self, *, address: str = "127.0.0.1", secure: bool = True, name: str = DOMAIN, source: str = ""
    ) -> "Connection":
        port = self.secure if secure else self.plain
        return Connection(address, port, secure=secure, name=name, source=source)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        **how: Any,
    ) -> Answer:
        connection = self.connection(**how)
        try:
            return connection.ask(method, path, body, headers)
        finally:
            connection.close()


class Connection(http.client.HTTPConnection):
    """To this address, by the name of the domain."""

    def __init__(self, address: str, port: int, *, secure: bool, name: str, source: str) -> None:
        super().__init__(name, timeout=30)
        self._to = (address, port)
        self._from = (source, 0) if source else None
        self._secure = secure

    def connect(self) -> None:
        self.sock = socket.create_connection(self._to, self.timeout, self._from)
        if self._secure:
            trusting = TRUSTING if self.host == DOMAIN else TRUSTING_ANY_NAME
            self.sock = trusting.wrap_socket(self.sock, server_hostname=self.host)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        self.request(method, path, body, dict(headers or {}))
        answer = self.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
