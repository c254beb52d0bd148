"""The team's package index: a real devpi-server on a host of its own, over a mirror."""

import http.server
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from rollout import stage, templates
from rollout.errors import UsageError
from tests.deploy.host import TestHost
from tests.deploy.project import FAB
from tests.deploy.test_kills import a_new_release
from tests.deploy.test_packages import PYPROJECT
from tests.deploy.test_stage import GOOD
from tests.deploy.world import World, who_showed

PASSWORD = "sentinelIndexPassw0rd"
PUBLIC_NAMES = ("acme-public", "sandbox", "acme-open")


def a_stage(folder: Path, lines: str) -> stage.Stage:
    (folder / "stages").mkdir()
    (folder / "deploy.toml").write_text(lines)
    (folder / "stages" / "qa.toml").write_text(GOOD)
    return stage.read(folder, "qa")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('host = "a"', r"\[index\]: its url is None; it is its address for pip"),
        ('hosts = "a"', r"\[index\]: there is no hosts in it; there are host, url"),
        ('host = "a"\nurl = "http://a:3141/"', "its url is 'http://a:3141/'"),
        ('host = "a"\nurl = "http://a:3141"\npassword = "secret"', "its password is 'secret'; it is where"),
    ],
)
def test_what_is_wrong_with_an_index_is_named(lines: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        a_stage(tmp_path, f"[index]\n{lines}\n")


def test_hosts_get_a_pip_conf_only_where_there_is_an_index(tmp_path: Path) -> None:
    (tmp_path / "templates").symlink_to(Path(templates.__file__).parents[1] / "templates")
    without = stage.read(Path(templates.__file__).parents[1], "qa")
    assert "/etc/pip.conf" not in {file.path for file in templates.files(without, {})}
    text = '[index]\nhost = "root@p"\nurl = "http://p.example.com:3141"\npassword = "env:P"\n'
    found = {file.path: file.content for file in templates.files(a_stage(tmp_path, text), {})}
    assert "index-url = http://p.example.com:3141/team/stage/+simple/\n" in found["/etc/pip.conf"]
    assert "trusted-host = p.example.com\n" in found["/etc/pip.conf"]


# --- a real one ---------------------------------------------------------------------------------------


@contextmanager
def public_index(folder: Path, address: str) -> Iterator[str]:
    """In PyPI's place: packages of these names, in version 99."""
    for name in PUBLIC_NAMES:
        source = folder / "sources" / name
        source.mkdir(parents=True)
        text = (
            PYPROJECT.replace("acme-reports", name).replace("1.2", "99").replace("acme_reports", name.replace("-", "_"))
        )
        (source / "pyproject.toml").write_text(text)
        (source / f"{name.replace('-', '_')}.py").write_text("")
        target = folder / "simple" / name
        words = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", target, source)
        subprocess.run([FAB.parent / "python", *words], check=True)
    names = "".join(f'<a href="{name}/">{name}</a>' for name in PUBLIC_NAMES)
    (folder / "simple" / "index.html").write_text(f"<!DOCTYPE html><html><body>{names}</body></html>")
    handler = partial(Silent, directory=str(folder))
    with http.server.ThreadingHTTPServer((address, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{address}:{server.server_port}/simple/"
        server.shutdown()
        thread.join()


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


def pip(host: TestHost, target: str, *words: str) -> subprocess.CompletedProcess[str]:
    """As a user of the host, who has /etc/pip.conf and no index but the team's."""
    host.run("/usr/bin/python3", "-m", "venv", target, seconds=300)
    command = (f"{target}/bin/pip", "install", "--disable-pip-version-check", "--no-cache-dir", *words)
    return host.run("env", "-i", "PATH=/usr/bin:/bin", "HOME=/root", *command, check=False, seconds=300)


@pytest.mark.slow
def test_the_index_has_what_was_built_and_a_deploy_does_without_it(make_world: Callable[..., World]) -> None:
    world = make_world(hosts=1)
    host, project = world.host, world.project
    host.sh("rm -rf /etc/pip.conf /etc/xdg/pip")  # this machine's own
    with public_index(world.folder / "public", host.gateway) as mirror:
        (world.folder / "token").write_text(PASSWORD)
        lines = (
            f'[index]\nhost = "root@{host.address}"\nurl = "http://127.0.0.1:3141"\nmirror = "{mirror}"\n'
            f'password = "file:{world.folder / "token"}"\npublic = ["acme-open"]\n'
        )
        for name in ("acme-open", "acme-reports"):
            (folder := project.folder / name).mkdir()
            (folder / "pyproject.toml").write_text(PYPROJECT.replace("acme-reports", name))
            (folder / "acme_reports.py").write_text("")
        project.stage(world.hosts, extra=f'packages = ["./acme-open"]\n{lines}')

        output = world.folder / "output"
        fab = project.start("index:setup", output=output)
        assert who_showed(PASSWORD, fab) == set()
        assert fab.returncode == 0, output.read_text()
        for link in ("/var/lib/devpi/started", "/var/log/devpi/devpi.log"):
            host.sh(f"runuser -u devpi -- ln -sf /etc/of-root {link}")
        host.sh("service devpi stop")
        assert "is there" in project.fab("index:setup")
        assert not (host.folder / "etc/of-root").exists()
        project.fab("setup")
        said = output.read_text() + project.fab("deploy")
        version = f"0.1.0+g{str(host.current)[-7:]}"
        assert f"sandbox-{version}-py3-none-any.whl published" in said
        assert "acme_open-1.2-py3-none-any.whl published" in said
        assert PASSWORD not in said

        installed = pip(host, "/home/a", "--no-deps", "sandbox")
        assert f"Successfully installed sandbox-{version}" in installed.stdout, installed.stderr
        installed = pip(host, "/home/a", "acme-open", "acme-public")
        assert "acme-open-99" in installed.stdout and "acme-public-99" in installed.stdout, installed.stderr
        found = host.sh(f"grep -rl {PASSWORD} /etc /srv /var/log /var/lib/devpi /run 2>/dev/null", check=False)
        assert found == ""

    host.sh("service devpi stop")
    a_new_release(world)
    said = project.fab("deploy")
    assert "not published, which fails nothing" in said
    assert world.runs_a_task()
