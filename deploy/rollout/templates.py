"""Renders templates/ for a host: pure. A place is written as @name@."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import ceil
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from rollout.errors import UsageError
from rollout.stage import Index, Stage

PLACE: Final = re.compile(r"@([a-z_]+)@")
BALANCER: Final = "balancer"  # printed, and put on no host
WATCHERS: Final = 3  # whose processes a reload proves, one after the other: web, runners, builders
REST_SECONDS: Final = 70  # of a stop: Redis, redis-sync and the observer (circus.ini)
LOADING_SECONDS: Final = 60  # of a start: the task types
MARGIN_SECONDS: Final = 15

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

# only where the stage has workspaces, and only by `setup`
STEWARD: Final = {
    "steward.toml": ("/etc/sandbox/steward.toml", "root", "root", 0o644),
    "steward_init": ("/etc/init.d/sandbox-steward", "root", "root", 0o755),
    "steward_unit": ("/etc/systemd/system/sandbox-steward.service", "root", "root", 0o644),
}
WORKSPACES: Final = {
    "SANDBOX_WORKSPACES": "/var/lib/sandbox-workspaces",
    "SANDBOX_WORKSPACE_ISOLATION": "isolated",
}


def files(stage: Stage, secrets: Mapping[str, str]) -> list[File]:
    return _files(stage, FILES | (PIP if stage.index else {}), secrets)


def of_index(stage: Stage) -> list[File]:
    """For the host of the index."""
    return _files(stage, INDEX, {})


def of_steward(stage: Stage, *, origin: str) -> list[File]:
    """`origin` is the address of the project's repository, without secrets."""
    index = stage.index.simple if stage.index else ""
    given = {"workspace_origin": origin, "workspace_index": index}
    return _files(stage, STEWARD, {}, given)


def _files(
    stage: Stage,
    table: Mapping[str, tuple[str, str, str, int]],
    secrets: Mapping[str, str],
    more: Mapping[str, str] = MappingProxyType({}),
) -> list[File]:
    return [
        File(path=path, owner=owner, group=group, mode=mode, content=_render(stage, name, secrets, more))
        for name, (path, owner, group, mode) in table.items()
    ]


def balancer(stage: Stage) -> str:
    """A site for nginx in front of all hosts of the stage."""
    return _render(stage, BALANCER, {})


def _render(stage: Stage, name: str, secrets: Mapping[str, str], more: Mapping[str, str] = MappingProxyType({})) -> str:
    """The hash is that of all else that is rendered: a changed key of the stage makes another file."""
    text = (stage.folder / "templates" / name).read_text()
    rendered = fill(text, {**places(stage, secrets), **more, "hash": "@hash@"}, name)
    return rendered.replace("@hash@", sha256(rendered.encode()).hexdigest()[:12])


def socket(stage: Stage) -> str:
    return {**_defaults(stage), **stage.environment}["SANDBOX_BIND"].removeprefix("unix:")


def _defaults(stage: Stage) -> Mapping[str, str]:
    return {**ENVIRONMENT, **(WORKSPACES if stage.workspaces else {})}


def places(stage: Stage, secrets: Mapping[str, str]) -> dict[str, str]:
    environment = {**_defaults(stage), **stage.environment, **secrets}
    stop = stop_seconds(environment)  # a start may have to end first what a killed circusd left
    loading = _loading_seconds(environment)
    return {
        "domain": stage.domain,
        "python": stage.python,
        "certificate": stage.certificate,
        "certificate_key": stage.certificate_key,
        "socket": socket(stage),
        "requests_per_second": str(stage.requests_per_second),
        "requests_burst": str(stage.requests_burst),
        "connections": str(stage.connections),
        "balancers": _believed(stage.balancers),
        "hosts": "\n    ".join(f"server {_name(host)}:443 max_fails=2 fail_timeout=5s;" for host in stage.hosts),
        "environment": "\n".join(f"{name}='{value}'" for name, value in sorted(environment.items())),
        "stop_seconds": str(stop),
        "ready_seconds": str(stop + loading),
        "start_seconds": str(stop + loading + MARGIN_SECONDS),
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


def stop_seconds(environment: Mapping[str, str]) -> int:
    """What the parts have for their end, one after the other, as docs/operations.md lists it (Time-outs)."""
    web = _whole(environment, "SANDBOX_WEB_GRACE", 30) + 15
    runners = _whole(environment, "SANDBOX_GRACE", 10) + 10
    return web + runners + REST_SECONDS + MARGIN_SECONDS


def change_seconds(stage: Stage) -> int:
    """For a reload, a start or a stop: the longest of them. A stop may have to start what a killed circusd left."""
    environment = {**_defaults(stage), **stage.environment}
    trials = WATCHERS * _whole(environment, "SANDBOX_RELOAD", 30)
    return trials + _loading_seconds(environment) + 2 * stop_seconds(environment)


def loading_seconds(stage: Stage) -> int:
    """What the task types have to load, at a start and for `sandbox check`."""
    return _loading_seconds(stage.environment)


def _loading_seconds(environment: Mapping[str, str]) -> int:
    return max(LOADING_SECONDS, _whole(environment, "SANDBOX_RELOAD", 30))


def _whole(environment: Mapping[str, str], name: str, least: int) -> int:
    try:
        return ceil(float(environment.get(name, least)))
    except (ValueError, OverflowError):
        raise UsageError(f"{name} is {environment[name]!r}; allowed are seconds.") from None


def _believed(balancers: Sequence[str]) -> str:
    lines = [f"set_real_ip_from {network};" for network in balancers]
    lines += ["real_ip_header X-Forwarded-For;", "real_ip_recursive on;"] if lines else ["# There is none."]
    return "\n    ".join(lines)


def _name(host: str) -> str:
    """Without the user and the port of ssh."""
    return host.rpartition("@")[2].partition(":")[0]


def fill(text: str, values: Mapping[str, str], name: str) -> str:
    def value(found: re.Match[str]) -> str:
        if found[1] not in values:
            raise UsageError(f"templates/{name}: there is no @{found[1]}@; there are {', '.join(sorted(values))}.")
        return values[found[1]]

    return PLACE.sub(value, text)
