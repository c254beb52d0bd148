"""kill -9 at each point of a creation and of a deletion on a host with a steward: of the builder, of steward, circusd,
cages and builder at once, and of steward or circusd alone. Whoever comes next goes on, and nothing but the tombstone
stays.
"""

import json

import pytest

from service.workspaces import names
from tests.workspaces.steward.builder import ORIGIN
from tests.workspaces.steward.stage import BASE, StewardHost
from tests.workspaces.steward.test_whole import PLACES, act, builder, page, set_up
from tests.workspaces.test_kills import CREATION, DELETION

BUILDER, EVERYTHING = "builder", "everything"
OF_CREATION = ("before:make_user", "after:make_user", *CREATION)
OF_DELETION = (*DELETION, "before:remove_user")
STEPS = ("clone", "venv", "requirements", "freeze", "switch", "database", "write_env", "start")
KEPT = ("mirror.git", ".mirror.lock", "records", "run", "cache")  # the service's own, and the tombstone


def killed(host: StewardHost, action: str, point: str, what: str, **arguments: str) -> None:
    done = builder(host, action, json.dumps(arguments), point, what)
    if what in (BUILDER, EVERYTHING):
        assert done.returncode in (-9, 137), (point, what, done.stdout, done.stderr)
    else:
        assert done.returncode == 0, (point, what, done.stderr)
    if what != BUILDER and not host.steward_lives():
        host.start_steward()


def system(host: StewardHost) -> dict[str, str]:
    """What a workspace could leave on the whole host."""
    pruned = " -o ".join(f"-path {BASE}/{name}" for name in KEPT)
    looks = {
        "files": f"find {BASE} \\( {pruned} \\) -prune -o -print | sort",
        "of workspaces' uids": "find / -xdev -path /proc -prune -o -uid +69999 -print -o -gid +69999 -print",
        "access lists": f"getfacl -Rsp /srv /home {BASE}/sockets 2>/dev/null",
        "mounts": "awk '{print $2, $3}' /proc/self/mounts | sort",
        "processes": "ps -eo uid=,args= | awk '$1 >= 70000'",
        "watchers": f"ls {BASE}/run/conf.d 2>/dev/null",
        "branches": f"git --git-dir {ORIGIN} for-each-ref",
    }
    accounts = {name: host.path(name).read_text() for name in PLACES}
    return accounts | {name: host.host.sh(script, check=False) for name, script in looks.items()}


@pytest.fixture
def project(host: StewardHost) -> None:
    set_up(host)
    host.host.sh(f"mkdir -p {BASE}/pages")  # which stays, empty


@pytest.mark.slow
@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("what", [BUILDER, EVERYTHING])
def test_a_creation_and_a_deletion_go_on_where_they_were_killed(host: StewardHost, what: str) -> None:
    email = f"killed-with-{what}@example.org"
    slug = names.slug(email)
    before = system(host)

    for point in OF_CREATION:
        killed(host, "create", point, what, email=email)
    made = act(host, "create", email=email)
    assert made["status"] == "succeeded", made
    assert page(host, slug) == f"{host.uid(slug)} hello"

    for point in OF_DELETION:
        killed(host, "delete", point, what, slug=slug)
    gone = act(host, "delete", slug=slug)
    assert gone["status"] == "succeeded", gone
    assert host.do("left", slug) == []
    assert system(host) == before


@pytest.mark.slow
@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("what", ["steward", "circusd"])
def test_a_helper_that_dies_under_the_builders_hands_hinders_only_that_attempt(host: StewardHost, what: str) -> None:
    email = f"without-{what}@example.org"
    slug = names.slug(email)
    before = system(host)

    for step in STEPS:
        killed(host, "create", f"within:{step}", what, email=email)
    made = act(host, "create", email=email)
    assert made["status"] == "succeeded", made
    assert page(host, slug) == f"{host.uid(slug)} hello"

    for step in ("git-status", "stop", "kill", "remove_folders", "remove_user"):
        killed(host, "delete", f"within:{step}", what, slug=slug)
    gone = act(host, "delete", slug=slug)
    assert gone["status"] == "succeeded", gone
    assert host.do("left", slug) == []
    assert system(host) == before
