"""What happens to a workspace between its creation and its end, on a host with a steward: all by the service's user."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.workspaces import names
from tests.servers import BUSY, eventually
from tests.system.instance import ROOT
from tests.workspaces.steward.builder import ORIGIN
from tests.workspaces.steward.stage import BASE, StewardHost
from tests.workspaces.steward.test_whole import act, page, set_up

EMAIL = "life@example.org"
SLUG = names.slug(EMAIL)
GIT = "git -c user.name=a -c user.email=a@example.org"
AS_THE_SERVICE = ("setpriv", "--reuid=sandbox", "--regid=sandbox", "--init-groups")
ORPHAN = f"{BASE}/w/w-nobody-aaaaaaaa"
HALT = f"""
from pathlib import Path
from service.workspaces.second_control import SecondCircusd
print(SecondCircusd(Path("{BASE}/run"), Path("{BASE}/w")).halt())
"""


def result(host: StewardHost, action: str, **arguments: str) -> dict[str, object]:
    outcome = act(host, action, user="sandbox", **arguments)
    assert outcome["status"] == "succeeded", outcome
    return dict(outcome["result"])


@pytest.fixture
def served(host: StewardHost) -> Iterator[StewardHost]:
    """What tests have as root is the service's."""
    set_up(host)
    halt(host)
    host.host.lend(Path(sys.base_prefix))
    host.host.sh(
        f"cd {BASE}; chown -R sandbox {ORIGIN}; find . -mindepth 1 -maxdepth 1 ! -name w -exec chown -R sandbox {{}} +"
    )
    yield host
    halt(host)
    host.host.sh(f"rm -rf {ORIGIN} {ORPHAN} {BASE}/.mirror.lock")


def halt(host: StewardHost) -> str:
    words = ("sh", "-c", f'cd {ROOT}; exec "$@"', "sh", sys.executable, "-c", HALT)
    return host.host.run(*words, seconds=90 * BUSY).stdout.strip()


@pytest.mark.slow
def test_it_is_updated_rebuilt_put_to_sleep_woken_and_halted(served: StewardHost) -> None:
    host = served
    result(host, "create", email=EMAIL)
    assert page(host, SLUG) == f"{host.uid(SLUG)} hello"

    push = (
        f"git clone -q -b {EMAIL} {ORIGIN} /srv/push; cd /srv/push;"
        f"sed -i 's/self.wfile.write(text)/self.wfile.write(text.upper())/' server.py; {GIT} commit -qam louder;"
        "git push -q"
    )
    host.host.sh("rm -rf /srv/push; install -d -o sandbox /srv/push")
    host.host.run(*AS_THE_SERVICE, "sh", "-ec", push)
    result(host, "update", slug=SLUG)
    shown = page(host, SLUG)
    assert shown == f"{host.uid(SLUG)} HELLO"

    result(host, "rebuild", slug=SLUG)
    assert page(host, SLUG) == shown
    assert host.host.sh(f"readlink {BASE}/w/{SLUG}/venv") == "venvs/2"

    age(host)
    assert result(host, "reconcile")["asleep"] == [SLUG]
    assert host.do("processes", SLUG) == []
    assert page(host, SLUG) == shown
    assert result(host, "reconcile")["awake"] == [SLUG]

    assert halt(host) == "True"
    eventually(lambda: host.do("processes", SLUG) == [], 30 * BUSY)
    host.host.run("mkdir", ORPHAN)
    assert result(host, "reconcile") == {"started": [SLUG], "orphans": [f"the folder {ORPHAN}"]}
    assert page(host, SLUG) == shown
    result(host, "delete", slug=SLUG)


def age(host: StewardHost) -> None:
    """As if nobody had used it for years."""
    file, old = f"{BASE}/records/{SLUG}.json", "2020-01-01T00:00:00.000000Z"
    record = json.loads(host.host.sh(f"cat {file}")) | {"last_used": old, "created_at": old}
    host.host.run("sh", "-c", f'printf %s "$1" >{file}', "sh", json.dumps(record))
    host.host.sh(f"touch -d 2020-01-01 {BASE}/w/{SLUG}/log/access.log", check=False)
