"""What happens to a workspace between its creation and its end, on a host with a steward."""

import json
import sys

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
HALT = f"""
from pathlib import Path
from service.workspaces.second_control import SecondCircusd
print(SecondCircusd(Path("{BASE}/run"), Path("{BASE}/w")).halt())
"""


def result(host: StewardHost, action: str, **arguments: str) -> dict[str, object]:
    outcome = act(host, action, **arguments)
    assert outcome["status"] == "succeeded", outcome
    return dict(outcome["result"])


@pytest.mark.slow
def test_it_is_updated_rebuilt_put_to_sleep_woken_and_halted(host: StewardHost) -> None:
    set_up(host)
    result(host, "create", email=EMAIL)
    assert page(host, SLUG) == f"{host.uid(SLUG)} hello"

    host.host.sh(
        f"rm -rf /srv/push; git clone -q -b {EMAIL} {ORIGIN} /srv/push; cd /srv/push;"
        f"sed -i 's/self.wfile.write(text)/self.wfile.write(text.upper())/' server.py; {GIT} commit -qam louder;"
        "git push -q"
    )
    result(host, "update", slug=SLUG)
    served = page(host, SLUG)
    assert served == f"{host.uid(SLUG)} HELLO"

    result(host, "rebuild", slug=SLUG)
    assert page(host, SLUG) == served
    assert host.host.sh(f"readlink {BASE}/w/{SLUG}/venv") == "venvs/2"

    age(host)
    assert result(host, "reconcile")["asleep"] == [SLUG]
    assert host.do("processes", SLUG) == []
    assert page(host, SLUG) == served
    assert result(host, "reconcile")["awake"] == [SLUG]

    words = ("sh", "-c", f'cd {ROOT}; exec "$@"', "sh", sys.executable, "-c", HALT)
    assert host.host.run(*words, seconds=90 * BUSY).stdout.strip() == "True"
    eventually(lambda: host.do("processes", SLUG) == [], 30 * BUSY)
    assert result(host, "reconcile")["started"] == [SLUG]
    assert page(host, SLUG) == served
    result(host, "delete", slug=SLUG)


def age(host: StewardHost) -> None:
    """As if nobody had used it for years."""
    file, old = f"{BASE}/records/{SLUG}.json", "2020-01-01T00:00:00.000000Z"
    record = json.loads(host.host.sh(f"cat {file}")) | {"last_used": old, "created_at": old}
    host.host.run("sh", "-c", f'printf %s "$1" >{file}', "sh", json.dumps(record))
    host.host.sh(f"touch -d 2020-01-01 {BASE}/w/{SLUG}/log/access.log", check=False)
