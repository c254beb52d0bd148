"""What a deploy would do: told truly, and nothing is changed by the telling."""

from collections.abc import Callable

from rollout.changes import packages
from tests.deploy.test_secrets import SENTINEL
from tests.deploy.world import World
from tests.servers import eventually

FOLDERS = "/etc /srv /var/lib /var/log /run /home"
# Names, kinds, rights, owners, times and contents.
CHECKSUM = f"""
{{ find {FOLDERS} -printf '%p %y %m %U:%G %T@ %s %l\\n' | sort; find {FOLDERS} -type f -exec sha256sum {{}} + | sort; }}
"""


FORMER = "sentinelF0rmer"


def test_packages_that_change_are_told_by_their_versions() -> None:
    old = "Flask==3.1.3 --hash=sha256:aa\nasync_timeout==5.0.1 ; python_version < '3.12' --hash=sha256:bb\nold==1"
    assert packages(old, {"flask": "3.1.4", "async-timeout": "5.0.1", "fresh": "2"}) == [
        "  flask 3.1.3 → 3.1.4",
        "+ fresh 2",
        "- old 1",
    ]
    assert packages("acme_reports==1\nsandbox==1", {"sandbox": "2"}, ["acme_reports", "sandbox"]) == ["  sandbox 1 → 2"]


def changed(world: World) -> str:
    """A commit, a new pin, a setting, a secret and a file that somebody has changed by hand."""
    (world.folder / "token").write_text(f"https://{SENTINEL}@127.0.0.1/1")
    world.project.stage(
        world.hosts,
        extra=f'[secrets]\nSENTRY_DSN = "file:{world.folder / "token"}"\n',
        environment='SANDBOX_THREADS = "3"\n',
    )
    with (world.project.folder / "requirements.txt").open("a") as pins:
        pins.write("acme-reports==1.2\n")
    settings = world.host.folder / "etc/default/sandbox"
    settings.write_text(settings.read_text() + f"SHOP_PASSWORD='{FORMER}'\n")  # it was a secret before
    tmpfiles = world.host.folder / "etc/tmpfiles.d/sandbox.conf"
    tmpfiles.write_text(tmpfiles.read_text() + "# by hand\n")
    return world.project.commit("a change that is planned")


def test_a_plan_tells_commits_packages_files_and_phases_and_leaves_the_host_as_it_is(world: World) -> None:
    assert eventually(world.serves, 60)
    world.host.sh("service sandbox stop; service nginx stop")
    sha = changed(world)
    before = world.host.sh(CHECKSUM)

    said = world.project.fab("plan")

    assert world.host.sh(CHECKSUM) == before
    assert before.count("sandbox") > 100
    assert f"main is {sha[:7]}" in said and "a change that is planned (test)" in said
    assert "+ acme-reports 1.2" in said and "gunicorn" not in said
    assert "+SANDBOX_THREADS='3'" in said and "-# by hand" in said
    assert "+SENTRY_DSN=***" in said and SENTINEL not in said
    assert "-SHOP_PASSWORD=***" in said and FORMER not in said
    phases = [line.split()[0] for line in said.partition("in this order\n")[2].splitlines()]
    assert phases[:2] == ["check", "build"] and phases[-5:-2] == ["switch", "reload", "verify"]


def test_a_plan_says_that_a_check_would_refuse_and_which_hosts_differ(make_world: Callable[..., World]) -> None:
    world = make_world(hosts=2)
    world.hosts[1].sh("echo until Monday | runuser -u deploy -- tee /srv/sandbox/shared/frozen")
    said = world.project.fab("plan")
    first, second = (said.index(f"\n{host.address}\n") for host in world.hosts)
    assert first < second < said.index("is frozen: until Monday")


def test_hosts_that_lack_the_same_secret_stand_together(make_world: Callable[..., World]) -> None:
    world = make_world(hosts=2)
    changed(world)
    first, second = (host.folder / "etc" for host in world.hosts)
    for name in ("default/sandbox", "tmpfiles.d/sandbox.conf"):
        (second / name).write_text((first / name).read_text())
    said = world.project.fab("plan")
    assert f"\n{', '.join(host.address for host in world.hosts)}\n" in said
    assert said.count("+SENTRY_DSN=***") == said.count("-SHOP_PASSWORD=***") == 1
