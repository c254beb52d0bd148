"""How a browser reaches a workspace: one server block with a regular expression, and no file a workspace.

On somebody's own machine an nginx of one's own user listens at *.localhost; where there is none, or nobody wants it,
each workspace has a port. On a host, root installs the text that `sandbox workspace site` prints: the service's user
can change no file that the host's nginx reads as root.
"""

import getpass
import html
import os
import re
from dataclasses import dataclass
from typing import Final

from service.workspaces.places import Places
from service.workspaces.record import Workspace

LOCAL: Final = "localhost"
PORTS: Final = "127.0.0.1"  # in place of a domain: no names, and no nginx
NO_OTHER: Final = """\

server {
    listen @listen@@default@;
    server_name "@others@";
    default_type text/plain;
    return 421 "No workspace has this name.\\n";
}
"""
# TLS may end in front of it: then what stands there says by what scheme it was asked, else the address of workspaces.
BY_HTTPS: Final = """\
map $http_x_forwarded_proto $workspace_scheme {
    default https;
    http http;
}

"""
SITE: Final = """\
server {
    listen @listen@;
    server_name "~^(?<workspace>w-[a-z0-9-]{1,29})\\.@domain@$";
    access_log off;
    client_max_body_size 100m;

    location /static/ {
        alias @homes@/$workspace/data/static/;
        disable_symlinks on from=@homes@/$workspace;
    }

    location /media/ {
        alias @media@/;
        disable_symlinks on from=@media@;
    }

    location / {
        proxy_pass http://unix:@sockets@/$workspace.sock;
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto @scheme@;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $http_connection;
        proxy_read_timeout 75s;
        error_page 502 503 504 @resting;
    }

    location @resting {
        root @pages@;
        default_type text/html;
        add_header Cache-Control no-store always;
        try_files /$workspace.html =421;
    }
}
"""
OWN: Final = """\
user @user@;
pid @run@/nginx.pid;
error_log @run@/nginx.log;
worker_processes 1;
events { }
http {
    include @run@/mime.types;
    client_body_temp_path @run@/nginx/body; proxy_temp_path @run@/nginx/proxy; fastcgi_temp_path @run@/nginx/fastcgi;
    uwsgi_temp_path @run@/nginx/uwsgi; scgi_temp_path @run@/nginx/scgi;
    server_names_hash_bucket_size 128;
    include @run@/site.conf;
}
"""
MIME_TYPES: Final = """\
types {
    text/html html htm; text/css css; text/plain txt; application/javascript js mjs; application/json json;
    image/png png; image/jpeg jpg jpeg; image/gif gif; image/svg+xml svg; image/webp webp; image/x-icon ico;
    font/woff woff; font/woff2 woff2; application/pdf pdf; video/mp4 mp4;
}
"""
PAGE: Final = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="3">
<meta name="viewport" content="width=device-width">
<title>{slug}</title>
<style>body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 15vh auto; padding: 0 1rem }}</style>
<h1>{title}</h1>
<p>{text}</p>
"""
TEXTS: Final = {
    "requested": ("It waits to be built", "This page refreshes itself."),
    "creating": ("It is being built", "Now: {step}. This page refreshes itself."),
    "ready": ("It does not answer", "Its process may be starting. This page refreshes itself."),
    "stopped": ("It is stopped", "Start it on the page of the workspaces."),
    "asleep": ("It is asleep", "It wakes now; this page refreshes itself."),
    "failed": ("It has failed", "At: {step}. The page of the workspaces says why."),
    "deleting": ("It is being deleted", "Soon there is nothing here."),
    "delete_failed": ("It could not be deleted", "The page of the workspaces says why."),
}


@dataclass(frozen=True)
class Addresses:
    """How workspaces are reached: `domain` may have a port; `program` is the nginx that is to be started for it."""

    domain: str
    program: str = ""
    by_port: bool = False

    @classmethod
    def at(cls, domain: str, program: str) -> "Addresses":
        if domain == PORTS:
            return cls(LOCAL, by_port=True)
        if domain.partition(":")[0] != LOCAL:
            return cls(domain)
        return cls(domain, program, by_port=not program)

    @property
    def host(self) -> str:
        return self.domain.partition(":")[0]

    @property
    def port(self) -> int:
        return int(self.domain.partition(":")[2] or 80)

    def address(self, slug: str, port: int) -> str:
        if self.by_port:
            return f"http://{PORTS}:{port}/"
        scheme = "http" if self.host == LOCAL else "https"
        return f"{scheme}://{slug}.{self.domain}/"

    def hosts(self, slug: str) -> list[str]:
        """What the project is to accept."""
        return [PORTS, LOCAL] if self.by_port else [f"{slug}.{self.host}"]

    @property
    def is_local(self) -> bool:
        return self.host == LOCAL

    def text(self, places: Places) -> str:
        """For an nginx that is ours, or for a host's, which has a server for other domains already: among regular
        expressions the first one counts.
        """
        domain = re.escape(self.host)
        return _filled(
            SITE + NO_OTHER if self.is_local else BY_HTTPS + SITE + NO_OTHER,
            listen=f"127.0.0.1:{self.port}" if self.is_local else str(self.port),
            default=" default_server" if self.is_local else "",
            others="_" if self.is_local else rf"~(^|\.){domain}$",
            scheme="$scheme" if self.is_local else "$workspace_scheme",
            domain=domain,
            homes=str(places.homes),
            media=str(places.shared_media),
            sockets=str(places.sockets),
            pages=str(places.pages),
        )


def own(places: Places) -> str:
    """For an nginx of this user's, beside site.conf."""
    (places.run / "mime.types").write_text(MIME_TYPES)
    return _filled(OWN, user=getpass.getuser(), run=str(places.run))


def write_page(places: Places, record: Workspace) -> None:
    """What is seen while it does not answer; nothing when it is gone."""
    file = places.pages / f"{record.slug}.html"
    if record.state not in TEXTS:
        file.unlink(missing_ok=True)
        return
    title, text = TEXTS[record.state]
    shown = PAGE.format(
        slug=record.slug, title=title, text=html.escape(text.format(step=record.step or "the beginning"))
    )
    places.pages.mkdir(parents=True, exist_ok=True, mode=0o755)
    beside = file.with_suffix(".new")
    beside.write_text(shown)
    os.rename(beside, file)


def _filled(template: str, **values: str) -> str:
    for name, value in values.items():
        template = template.replace(f"@{name}@", value)
    return template
