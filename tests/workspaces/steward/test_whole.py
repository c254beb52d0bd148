"""From an email to a page and back to nothing, on a host with a steward: the same steps as in plain mode."""

import json
import subprocess
import sys
from typing import Any

import pytest

from service.workspaces import names
from tests.servers import BUSY
from tests.system.instance import ROOT
from tests.workspaces.steward.builder import DOMAIN, ORIGIN
from tests.workspaces.steward.stage import BASE, PROGRAM, StewardHost
from tests.workspaces.steward.test_web import SERVER

EMAIL = "whole@example.org"
SLUG = names.slug(EMAIL)
PROJECT = {"server.py": SERVER, "Procfile": "web: python server.py\n", ".env.example": "GREETING=hello\n"}
PLACES = ("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow")


def set_up(host: StewardHost) -> None:
    """The project, and an origin with it; the mirror is yet to be made."""
    host.project(**PROJECT)
    host.host.sh(f"rm -rf {BASE}/mirror.git {ORIGIN}; chown -R root /srv/project")
    host.host.sh(f"git clone -q --bare /srv/project {ORIGIN}")


def builder(host: StewardHost, *words: str, user: str = "root") -> "subprocess.CompletedProcess[str]":
    who = ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups")
    inside = ("sh", "-c", f'cd {ROOT}; exec "$@"', "sh", sys.executable, "-P", "-m", "tests.workspaces.steward.builder")
    environment = ("env", f"PYTHONPATH={ROOT}", "PYTHONDONTWRITEBYTECODE=1")
    return host.host.run(*who, *environment, *inside, *words, check=False, seconds=300 * BUSY)


def act(host: StewardHost, action: str, /, user: str = "root", **arguments: Any) -> dict[str, Any]:
    done = builder(host, action, json.dumps(arguments), user=user)
    assert done.returncode == 0, done.stderr
    outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return outcome


def page(host: StewardHost, slug: str = SLUG) -> str:
    socket = f"{BASE}/sockets/{slug}.sock"
    words = ("curl", "-s", "--max-time", str(60 * BUSY), "--unix-socket", socket, f"http://{slug}.{DOMAIN}/")
    return host.host.run(*words, check=False, seconds=90 * BUSY).stdout


@pytest.mark.slow
@pytest.mark.ci
def test_a_workspace_is_built_served_and_taken_away_without_a_trace(host: StewardHost) -> None:
    set_up(host)
    before = [host.path(place).read_text() for place in PLACES]

    made = act(host, "create", email=EMAIL)
    assert made["status"] == "succeeded", made
    uid = host.uid(SLUG)
    assert page(host) == f"{uid} hello"
    assert host.host.sh(f"ps -u {uid} -o args=").count("server.py") >= 1
    assert host.host.sh(f"git --git-dir {ORIGIN} branch --list {EMAIL}").strip() == EMAIL

    assert act(host, "restart", slug=SLUG)["status"] == "succeeded"
    assert page(host) == f"{uid} hello"
    granted = act(host, "access", slug=SLUG, login="jo")
    assert granted["status"] == "succeeded", granted
    assert host.ask("status", user="jo", slug=SLUG)["done"]["state"] == "active"

    gone = act(host, "delete", slug=SLUG)
    assert gone["status"] == "succeeded", gone
    assert host.do("left", SLUG) == []
    assert [host.path(place).read_text() for place in PLACES] == before
    assert host.host.sh(f"git --git-dir {ORIGIN} branch --list {EMAIL}") == ""
    assert host.host.sh(f"find {BASE} -user {uid}") == ""


def test_a_folder_that_was_the_services_is_taken_over_before_anything_is_done_in_it(host: StewardHost) -> None:
    base = "/var/lib/was-the-services"
    host.path("/etc/sandbox/other.toml").write_text(f'base = "{base}"\n')
    start = ("/usr/bin/python3", "-I", PROGRAM, "--config", "/etc/sandbox/other.toml", "serve")
    before = host.host.sh("stat -c '%U %a' /etc")
    host.host.sh(f"install -d -o sandbox -m 755 {base}; ln -s /etc {base}/w; chown -h sandbox {base}/w")
    done = host.host.run(*start, check=False)
    assert done.returncode == 1 and f"{base}/w must be a folder, and no link to one" in done.stderr
    assert host.host.sh(f"stat -c '%U %a' {base}").strip() == "root 1775"

    host.host.sh(f"rm {base}/w; install -d -o sandbox {base}/w")
    done = host.host.run(*start, check=False)
    assert done.returncode == 1 and f"{base}/w must be a folder of root's" in done.stderr

    host.host.sh(f"rm -r {base}; ln -s /etc {base}")
    done = host.host.run(*start, check=False)
    assert done.returncode == 1 and f"{base} must be a folder, and no link to one" in done.stderr
    assert host.host.sh("stat -c '%U %a' /etc") == before
