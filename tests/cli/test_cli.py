"""The command, as a shell calls it."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service import __version__, settings
from service.store import SCRIPTS, Layout, Session, Store
from service.store.connection import connect
from service.supervise.start import environment
from tests.servers import RedisServer, eventually, free_port
from tests.system.conftest import make_instance  # noqa: F401 - a fixture
from tests.system.instance import SANDBOX, Instance

ROOT = Path(__file__).resolve().parents[2]
PREFIXES = ("SANDBOX_", "CIRCUSCTL_", "REDIS_", "STATSD_", "GRAPHITE_", "SENTRY_")
HEAVY = ("circus", "flask", "gevent", "msgspec", "redis", "zmq")


def sandbox(*words: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: text for name, text in os.environ.items() if not name.startswith(("SANDBOX_", "CIRCUS", "REDIS"))}
    return subprocess.run(
        (sys.executable, "-P", "-m", "service.cli", *words),
        cwd=cwd,
        env={**clean, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=30,
    )


def evaluated(cwd: Path | None = None, **variables: str) -> dict[str, str]:
    """What a shell has after `eval "$(sandbox env)"`."""
    printed = sandbox("env", cwd=cwd, **variables).stdout
    shown = subprocess.run(
        ("sh", "-c", 'eval "$1" && env -0', "sh", printed), env={"PATH": os.defpath}, capture_output=True, check=True
    )
    return dict(line.split("=", 1) for line in shown.stdout.decode().split("\0") if line)


def test_version_and_path_need_nothing_set() -> None:
    assert sandbox("version").stdout == f"sandbox {__version__}\n"
    folder = Path(sandbox("path").stdout.rstrip("\n"))
    assert (folder / "circus.ini").is_file()
    assert (folder / "conf" / "gunicorn.py").is_file()


def test_it_starts_without_heavy_imports() -> None:
    script = (
        "import sys; from service.cli import main; "
        f"main.main(['version']); print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run((sys.executable, "-c", script), cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "[]"


def test_no_command_or_an_unknown_one_shows_the_usage() -> None:
    for words in ((), ("fly",), ("token",)):
        done = sandbox(*words)
        assert done.returncode == 2
        assert done.stderr.startswith("usage: sandbox")


def test_env_exports_what_is_set_and_no_defaults(folder: Path) -> None:
    exported = evaluated(SANDBOX_GRACE="20", SANDBOX_TOKENS="tokens", cwd=folder)
    assert {name: text for name, text in exported.items() if name.startswith(PREFIXES)} == {
        "SANDBOX_HOME": f"{folder}/var",
        "SANDBOX_GRACE": "20",
        "SANDBOX_TOKENS": f"{folder}/tokens",
        "CIRCUSCTL_ENDPOINT": f"ipc://{folder}/var/run/control.sock",
    }
    assert exported["PATH"].split(":")[0] == str(Path(sys.executable).parent)


def test_after_env_the_demo_types_are_no_more_open_to_strangers_than_before(folder: Path) -> None:
    home, tokens = str(folder / "home"), str(folder / "tokens")
    assert sandbox("token", "add", "mine", "--scope", "write", SANDBOX_TOKENS=tokens).returncode == 0
    shell = evaluated(SANDBOX_HOME=home, SANDBOX_TOKENS=tokens)
    done = sandbox("check", **shell | {"SANDBOX_BIND": "0.0.0.0"})
    assert done.stdout == "all is well: 0 types, queues default\n"


def test_after_a_move_of_the_state_folder_env_points_to_nothing_of_the_first(folder: Path) -> None:
    shell = evaluated(SANDBOX_HOME=str(folder / "first"))
    again = evaluated(**shell | {"SANDBOX_HOME": str(folder / "second")})
    assert not [name for name, text in again.items() if "first" in text]


def test_env_puts_the_programs_on_the_path_by_the_link_that_it_was_called_by(folder: Path) -> None:
    (folder / "current").symlink_to(Path(sys.executable).parent)
    program = folder / "current" / "sandbox"
    printed = subprocess.run((program, "env"), cwd=folder, capture_output=True, text=True, check=True).stdout
    assert f"export PATH={folder}/current" in printed


def test_circus_ini_has_all_that_it_asks_of_the_environment() -> None:
    asked = set(re.findall(r"\$\(circus\.env\.(\w+)\)", (ROOT / "circus.ini").read_text()))
    assert asked <= set(environment.variables(settings.read({})))


def test_circus_ini_is_told_of_the_embedded_redis_and_of_the_address_family() -> None:
    def told(name: str, **variables: str) -> str:
        return environment.variables(settings.read(variables))[name]

    assert told("SANDBOX_RUNNER_STOP", SANDBOX_GRACE="20") == "30"
    assert told("SANDBOX_REDIS_SERVERS") == "1"
    assert told("SANDBOX_REDIS_SERVERS", REDIS_URL="redis://elsewhere") == "0"
    assert [told("SANDBOX_FAMILY", SANDBOX_BIND=bind) for bind in ("127.0.0.1", "::1", "localhost")] == [
        "AF_INET",
        "AF_INET6",
        "AF_INET",
    ]


@pytest.mark.parametrize("text", ["a b", "it's", '"x"', "$HOME", "`id`", "a;b", "*", "\\", "ü", "a\nb"])
def test_env_survives_a_shell_whatever_a_value_holds(text: str) -> None:
    assert evaluated(SANDBOX_HOME=f"/h/{text}")["SANDBOX_HOME"] == f"/h/{text}"


def test_env_leaves_a_path_alone_that_has_the_programs() -> None:
    programs = str(Path(sys.executable).parent)
    assert "export PATH" not in environment.exports(settings.read({}), {"PATH": f"/bin:{programs}"}, Path(sys.argv[0]))


def test_an_error_is_one_line_and_exit_code_1() -> None:
    done = sandbox("env", SANDBOX_PORT="x")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "sandbox: SANDBOX_PORT is 'x'; allowed is a port from 1 to 65535.\n"


def test_a_token_is_shown_once_and_listed_by_name(folder: Path) -> None:
    file = {"SANDBOX_TOKENS": str(folder / "tokens")}
    secret = sandbox("token", "add", "ci", "--scope", "write", **file).stdout
    assert re.fullmatch(r"sbx_[\w-]{43}\n", secret)
    assert secret.strip() not in (folder / "tokens").read_text()
    sandbox("token", "add", "board", "--scope", "read", **file)
    assert sandbox("token", "list", **file).stdout == "ci\twrite\nboard\tread\n"
    assert sandbox("token", "remove", "ci", **file).returncode == 0
    assert sandbox("token", "list", **file).stdout == "board\tread\n"


def test_a_link_signs_in_as_a_token_that_is_there(folder: Path, server: RedisServer) -> None:
    file = {"SANDBOX_TOKENS": str(folder / "tokens"), "REDIS_URL": server.url, "SANDBOX_HOME": str(folder)}
    sandbox("token", "add", "alice", "--scope", "read", **file)
    printed = sandbox("token", "link", "alice", **file).stdout
    found = re.fullmatch(r"http://127\.0\.0\.1:8000/ui/sign-in\?code=([\w-]{43})\n", printed)
    assert found
    store = Store(connect(server.url, SCRIPTS))
    assert store.sessions.use_code(found[1]) == Session(*(folder / "tokens").read_text().split()[::2])
    assert store.sessions.use_code(found[1]) is None
    store.close()
    elsewhere = sandbox("token", "link", "alice", "--url", "https://tasks.example.com/", **file).stdout
    assert elsewhere.startswith("https://tasks.example.com/ui/sign-in?code=")
    unknown = sandbox("token", "link", "bob", **file)
    assert unknown.returncode == 1 and "there is no token bob" in unknown.stderr
    behind = sandbox("token", "link", "alice", SANDBOX_BIND=f"unix:{folder}/w.sock", **file)
    assert behind.returncode == 1 and "--url" in behind.stderr


def test_a_token_that_cannot_be_made_or_removed_says_why(folder: Path) -> None:
    file = {"SANDBOX_TOKENS": str(folder / "tokens")}
    sandbox("token", "add", "ci", "--scope", "read", **file)
    for words in (("add", "ci", "--scope", "read"), ("add", "a b", "--scope", "read"), ("remove", "nobody")):
        done = sandbox("token", *words, **file)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(r"sandbox: .+\n", done.stderr)
    assert sandbox("token", "add", "x", "--scope", "all", **file).returncode == 2


def test_tokens_need_a_file() -> None:
    done = sandbox("token", "list")
    assert done.returncode == 1
    assert done.stderr == "sandbox: SANDBOX_TOKENS is not set; it names the file that holds the tokens.\n"


def test_types_lists_what_the_modules_offer(folder: Path) -> None:
    (folder / "mine.py").write_text("from service import task\n\n@task('mine', queue='side')\ndef mine(context): ...\n")
    listed = sandbox("types", SANDBOX_TASKS="mine", PYTHONPATH=f"{ROOT}{os.pathsep}{folder}")
    assert listed.stdout == "mine\tside\n"


@pytest.mark.parametrize("broken", ["import nowhere", "def", "from service import task\ntask('a b')(print)"])
def test_modules_that_cannot_be_loaded_refuse_the_start_in_one_line(folder: Path, broken: str) -> None:
    (folder / "broken.py").write_text(broken)
    path = f"{ROOT}{os.pathsep}{folder}"
    refused = sandbox("run", SANDBOX_TASKS="broken", SANDBOX_HOME=str(folder / "home"), PYTHONPATH=path)
    [line] = refused.stderr.splitlines()
    assert refused.returncode == 1
    assert line.startswith("sandbox: SANDBOX_TASKS is 'broken', which cannot be loaded: ")
    assert not (folder / "home").exists()


def test_check_says_that_all_is_well(folder: Path) -> None:
    done = sandbox("check", SANDBOX_QUEUES="default,side", SANDBOX_HOME=str(folder / "home"))
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"all is well: \d+ types, queues default, side\n", done.stdout)
    assert not (folder / "home").exists()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"SANDBOX_BIND": "0.0.0.0"}, "SANDBOX_BIND is '0.0.0.0'; without SANDBOX_TOKENS only loopback"),
        ({"SANDBOX_TOKENS": "/no/such/file"}, "SANDBOX_TOKENS is '/no/such/file', which "),
        ({"SANDBOX_TASKS": "nowhere"}, "SANDBOX_TASKS is 'nowhere', which cannot be loaded: "),
        ({"SANDBOX_RUNNERS": "many"}, "SANDBOX_RUNNERS is 'many'; "),
        ({"SANDBOX_CONTROL_GROUP": "no-such-group"}, "SANDBOX_CONTROL_GROUP is 'no-such-group'; "),
        ({"SANDBOX_HOME": f"{__file__}/home"}, f"SANDBOX_HOME is '{__file__}/home', which cannot be used: "),
        ({"SANDBOX_LOGS": f"{__file__}/log"}, f"SANDBOX_LOGS is '{__file__}/log', which cannot be used: "),
    ],
)
def test_check_says_what_is_wrong(variables: dict[str, str], said: str) -> None:
    done = sandbox("check", **variables)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"sandbox: {said}")


@pytest.mark.parametrize("variable", ["SANDBOX_HOME", "SANDBOX_LOGS"])
def test_check_refuses_a_link_that_leads_nowhere_as_the_start_does(folder: Path, variable: str) -> None:
    link = folder / "link"
    link.symlink_to(folder / "gone")
    for name in ("check", "run"):
        done = sandbox(name, **{"SANDBOX_HOME": str(folder / "home"), variable: str(link)})
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"sandbox: {variable} is '{link}', which cannot be used: ")


def test_check_says_that_redis_belongs_to_another_installation(server: RedisServer) -> None:
    wire = connect(server.url, SCRIPTS)
    Layout(wire, name="billing", partitions=1).claim()
    wire.close()
    done = sandbox("check", REDIS_URL=server.url, SANDBOX_NAME="shop")
    assert done.returncode == 1
    assert "holds the tasks of the installation 'billing', and this one is 'shop'" in done.stderr
    assert sandbox("check", REDIS_URL=server.url, SANDBOX_NAME="billing").returncode == 0
    assert sandbox("check", REDIS_URL="redis://127.0.0.1:1", SANDBOX_NAME="shop").returncode == 0  # it may come yet


def test_circusd_gets_its_own_arguments(folder: Path) -> None:
    done = sandbox("circusd", "--version", SANDBOX_HOME=str(folder / "home"), SANDBOX_PORT=str(free_port()))
    assert done.stdout == "0.19.0\n", done.stderr


def test_others_may_write_nothing_of_the_state_folder_whatever_the_umask_is(
    make_instance: Callable[..., Instance],  # noqa: F811
    folder: Path,
) -> None:
    instance = make_instance(SANDBOX_HOME=str(folder / "new" / "home"))
    instance.home = folder / "new" / "home"
    instance.started("sh", "-c", 'umask 000; exec "$@"', "sh", *SANDBOX, "run")
    eventually(lambda: instance.succeeded(instance.create("echo")))
    entries = [folder / "new", instance.home, *instance.home.iterdir(), *(instance.home / "log").iterdir()]
    assert {path: oct(path.stat().st_mode) for path in entries if path.stat().st_mode & 0o022} == {}
    closed = {path.name for path in instance.home.iterdir() if path.stat().st_mode & 0o077 == 0}
    assert {path.name for path in instance.home.iterdir() if path.is_dir()} == closed | {"log"}
    assert instance.stop() == 0
