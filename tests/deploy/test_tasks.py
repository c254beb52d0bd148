"""A team's own part of a deploy: hooks, phases of its own, and the load balancer."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rollout import order, tasks
from rollout.errors import UsageError
from tests.deploy import broken
from tests.deploy.world import World

TEAM = """
from rollout.tasks import Target, phase

def before_switch(host: Target) -> None:
    host.say(host.run("cat; echo \\"$1 $ROOT $(id -un)\\"", host.release, user="deploy", stdin="in ").strip())

def after_build(host: Target) -> None:
    host.say(f"{host.host} has {host.run('ls setup.py').strip()}")

@phase(after="install")
def assets(host: Target) -> None:
    host.run('test -e "$ROOT/releases/$1/.venv"; touch "$ROOT/releases/$1/assets"', host.release, user="deploy")

@phase(after="migrate", first_host_only=True)
def once(host: Target) -> None: ...
"""

BALANCER = """
def take_out(host):
    host.run("test ! -e /etc/sandbox/in || rm /etc/sandbox/in; echo out >>/etc/sandbox/balance")

def put_back(host):
    host.run("echo in >>/etc/sandbox/balance; touch /etc/sandbox/in")
"""


def load(folder: Path, text: str) -> tasks.Tasks:
    (folder / "tasks").mkdir(exist_ok=True)
    (folder / "tasks" / "team.py").write_text(text)
    return tasks.load(folder, ("tasks",))


def test_phases_of_a_team_stand_after_the_ones_that_they_name(tmp_path: Path) -> None:
    found = load(tmp_path, TEAM)
    names = found.order(order.PREPARE)
    assert names.index("assets") == names.index("install") + 1
    assert names.index("once") == names.index("migrate") + 1
    assert found.files("before_switch") == ["tasks/team.py"]


def test_a_project_without_tasks_has_none(tmp_path: Path) -> None:
    assert tasks.load(tmp_path, ("tasks",)).order(order.ALL) == order.ALL


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def before_swich(host): ...", "tasks/team.py: before_swich: there is no phase swich; there are check, "),
        ("import no_such_module", "cannot be loaded: ModuleNotFoundError"),
        (
            "from rollout.tasks import phase\n@phase(after='warm')\ndef x(host): ...",
            "x comes after 'warm'; allowed is one of upload, install",
        ),
        ("from rollout.tasks import phase\n@phase(after='link')\ndef warm(host): ...", "a phase warm is there already"),
    ],
)
def test_what_is_wrong_in_a_module_is_named_with_its_file(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        load(tmp_path, text)


def team(world: World, text: str, name: str = "team.py") -> None:
    (world.project.folder / "deploy" / "tasks" / name).write_text(text)
    world.project.commit("the team's tasks")


@pytest.mark.slow
def test_hooks_and_phases_of_a_team_are_part_of_a_deploy(world: World) -> None:
    team(world, TEAM)
    said = world.project.fab("deploy")
    release = world.host.current
    assert f"in {release} /srv/sandbox deploy" in said and "- has setup.py" in said
    lines = [line.split()[1] for line in said.splitlines()]
    assert lines[lines.index("install") + 1] == "assets" and lines[lines.index("migrate") + 1] == "once"
    assert (world.host.folder / f"srv/sandbox/releases/{release}/assets").exists()
    assert "  assets " in world.project.fab("plan")
    world.project.fab("deploy:assets", "--release", str(release))

    team(world, "def after_reload(host): raise ValueError('not today')")
    said = world.project.fab("deploy", code=1)
    assert f"{world.host.address}: tasks/team.py: after_reload: ValueError: not today" in said
    assert world.host.current == release
    assert world.runs_a_task()


def balance(world: World) -> list[list[str]]:
    """What happened to each host, as its balancer was told."""
    found = []
    for host in world.hosts:
        file = host.folder / "etc/sandbox/balance"
        found.append(file.read_text().split() if file.exists() else [])
        file.unlink(missing_ok=True)
    return found


@pytest.mark.slow
def test_a_host_is_out_of_the_balancer_while_it_is_switched_and_comes_back_also_when_that_fails(
    make_world: Callable[..., World],
) -> None:
    world = make_world(hosts=2)
    team(world, BALANCER)
    said = world.project.fab("deploy")
    [first, second] = ([line.split()[1] for line in said.splitlines() if host.address in line] for host in world.hosts)
    assert first[-6:] == second[-6:] == ["take_out", "switch", "reload", "verify", "put_back", "cleanup"]
    assert balance(world) == [["out", "in"], ["out", "in"]]

    good = world.host.current
    (world.hosts[1].folder / "etc/sandbox/refuse").touch()
    world.project.change(
        "service/web/api/health.py", "        found: dict[str, Any] = {}\n", broken.REFUSES_WHERE_TOLD, "picky"
    )
    world.project.fab("deploy", code=1)
    assert [host.current for host in world.hosts] == [good, good]
    assert balance(world) == [["out", "in", "out", "in"], ["out", "in"]]

    world.project.fab("restart")
    assert balance(world) == [["out", "in"], ["out", "in"]]
