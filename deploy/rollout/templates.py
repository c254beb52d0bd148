"""Renders templates/ for a host: pure. A place is written as @name@."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

from rollout.errors import UsageError
from rollout.stage import Index, Stage

PLACE: Final = re.compile(r"@([a-z_]+)@")

ENVIRONMENT: Final = {
    "SANDBOX_HOME": "/var/lib/sandbox",
    "SANDBOX_LOGS": "/var/log/sandbox",
    "SANDBOX_CONTROL_GROUP": "sandbox-control",
    "SANDBOX_RELEASE": "/srv/sandbox/current",
    "SANDBOX_BIND": "unix:/run/sandbox/web.sock",
    "SANDBOX_TOKENS": "/var/lib/sandbox/tokens",
}


@dataclass(frozen=True, kw_only=True)
class File:
    """A file as it shall be on a host."""

    path: str
    owner: str
    group: str
    mode: int
    content: str


# template: path on the host, owner, group, mode
FILES: Final = {
    "default": ("/etc/default/sandbox", "root", "sandbox", 0o640),
    "init": ("/etc/init.d/sandbox", "root", "root", 0o755),
    "unit": ("/etc/systemd/system/sandbox.service", "root", "root", 0o644),
    "tmpfiles": ("/etc/tmpfiles.d/sandbox.conf", "root", "root", 0o644),
    "nginx": ("/etc/nginx/sites-available/sandbox", "root", "root", 0o644),
}


# only where the stage has an index
PIP: Final = {"pip": ("/etc/pip.conf", "root", "root", 0o644)}
INDEX: Final = {
    "index_init": ("/etc/init.d/devpi", "root", "root", 0o755),
    "index_unit": ("/etc/systemd/system/devpi.service", "root", "root", 0o644),
}


def files(stage: Stage, secrets: Mapping[str, str]) -> list[File]:
    return _files(stage, FILES | (PIP if stage.index else {}), secrets)


def of_index(stage: Stage) -> list[File]:
    """For the host of the index."""
    return _files(stage, INDEX, {})


def _files(stage: Stage, table: Mapping[str, tuple[str, str, str, int]], secrets: Mapping[str, str]) -> list[File]:
    return [
        File(path=path, owner=owner, group=group, mode=mode, content=_render(stage, name, secrets))
        for name, (path, owner, group, mode) in table.items()
    ]


def _render(stage: Stage, name: str, secrets: Mapping[str, str]) -> str:
    text = (stage.folder / "templates" / name).read_text()
    return fill(text, {**places(stage, secrets), "hash": sha256(text.encode()).hexdigest()[:12]}, name)


def socket(stage: Stage) -> str:
    return {**ENVIRONMENT, **stage.environment}["SANDBOX_BIND"].removeprefix("unix:")


def places(stage: Stage, secrets: Mapping[str, str]) -> dict[str, str]:
    environment = {**ENVIRONMENT, **stage.environment, **secrets}
    return {
        "domain": stage.domain,
        "certificate": stage.certificate,
        "certificate_key": stage.certificate_key,
        "environment": "\n".join(f"{name}='{value}'" for name, value in sorted(environment.items())),
        **(_of_index(stage.index) if stage.index else {}),
    }


def _of_index(index: Index) -> dict[str, str]:
    return {
        "index_listen": index.listen,
        "index_port": str(index.port),
        "index_url": index.url,
        "index_simple": index.simple,
        "index_name_of_host": str(urlsplit(index.url).hostname),
    }


def fill(text: str, values: Mapping[str, str], name: str) -> str:
    def value(found: re.Match[str]) -> str:
        if found[1] not in values:
            raise UsageError(f"templates/{name}: there is no @{found[1]}@; there are {', '.join(sorted(values))}.")
        return values[found[1]]

    return PLACE.sub(value, text)
