"""The command as a whole: its table of commands, how it starts and how it ends."""

import subprocess
import sys
from pathlib import Path

import pytest

from service.cli.main import COMMANDS, SANDBOX
from tests.cli.test_cli import ROOT, sandbox

HEAVY = ("circus", "flask", "gevent", "msgspec", "redis", "tornado", "zmq", "psutil", "service.web", "service.store")


def test_each_command_is_where_the_table_says() -> None:
    with SANDBOX.make_context("sandbox", ["version"]) as context:
        for name, lazy in COMMANDS.items():
            command = SANDBOX.get_command(context, name)
            assert command is not None and command.name == name.replace("_", "-")
            assert command.help == lazy.text


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(name: str) -> None:
    done = sandbox(name, "--help", SANDBOX_HOME="/nowhere")
    if name == "circusd":
        return  # circusd's own help
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: sandbox {name}")


@pytest.mark.parametrize("words", [["task", "get", "x"], ["task", "create", "echo"], ["types", "echo"]])
def test_what_a_client_calls_imports_nothing_heavy(words: list[str]) -> None:
    found = f"print([name for name in {HEAVY} if name in sys.modules])"
    script = f"import sys; from service.cli import main; main.main({words}); {found}"
    done = subprocess.run(
        (sys.executable, "-c", script),
        cwd=ROOT,
        env={"SANDBOX_URL": "http://127.0.0.1:1", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n", done.stderr
    assert "no service answers at http://127.0.0.1:1" in done.stderr


def test_the_types_of_the_release_are_printed_without_importing_http(tmp_path: Path) -> None:
    """Neither by the command nor by the process of the release that it becomes."""
    done = sandbox("types", SANDBOX_HOME=str(tmp_path), PYTHONPROFILEIMPORTTIME="1")
    assert "echo\t" in done.stdout
    imported = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines()]
    assert imported.count("service.cli.showing") == 2
    assert not {"http.client", "service.cli.caller"} & {*imported}


def test_help_names_every_command_and_the_bare_word_shows_it() -> None:
    listed = sandbox("--help")
    assert all(f"\n  {name} " in listed.stdout for name in COMMANDS)
    bare = sandbox()
    assert (bare.returncode, bare.stdout, bare.stderr) == (2, "", listed.stdout)


def test_a_word_that_is_none_says_where_help_is() -> None:
    done = sandbox("token", "add", "x", "--scope", "all")
    assert done.returncode == 2
    usage, said = done.stderr.splitlines()
    assert usage.startswith("usage: sandbox token add")
    assert said.startswith("sandbox: Invalid value for '--scope'") and said.endswith("See: sandbox token add --help")


@pytest.mark.parametrize(
    ("words", "meant"), [(["tsk"], "task"), (["task", "lst"], "list"), (["types", "--jsn"], "--json")]
)
def test_a_misspelt_word_is_told_with_the_one_that_was_meant(words: list[str], meant: str) -> None:
    done = sandbox(*words)
    assert done.returncode == 2
    assert f"Did you mean '{meant}'?" in done.stderr


def test_circusd_gets_all_words_as_they_are() -> None:
    from service.cli.instance import circusd

    with circusd.make_context("circusd", ["--help", "--", "-x", "a b"]) as context:
        assert context.params == {"words": ("--help", "--", "-x", "a b")}


def test_a_folder_that_has_gone_is_told(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'rmdir "$PWD"; exec "$@"'
    done = subprocess.run(
        ("sh", "-c", script, "sh", sys.executable, "-P", "-m", "service.cli", "version"),
        cwd=gone,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "the folder that this command is typed in has gone" in done.stderr


@pytest.mark.parametrize("variables", [{}, {"PYTHONUNBUFFERED": "1"}])
@pytest.mark.parametrize("words", [["version"], ["task", "create", "--help"]])
def test_standard_output_that_is_full_is_a_failure(words: list[str], variables: dict[str, str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            (sys.executable, "-m", "service.cli", *words),
            cwd=ROOT,
            env=variables,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == "sandbox: standard output takes nothing more: No space left on device.\n"


def test_standard_streams_that_are_closed_are_not_given_to_files() -> None:
    opens = "from service.cli.main import main; code = main(['version']); own = open('setup.py'); "
    tells = "import sys; sys.exit(code or own.fileno() < 3 or sys.stdout is None)"
    words = ["sh", "-c", '"$0" "$@" <&- >&- 2>&-', sys.executable, "-c", opens + tells]
    assert subprocess.run(words, cwd=ROOT).returncode == 0


def test_signs_that_standard_output_cannot_show_are_escaped() -> None:
    script = "from service.cli import main; main.main(['version']); print('caf\\xe9')"
    done = subprocess.run(
        (sys.executable, "-c", script),
        cwd=ROOT,
        env={"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "caf\\xe9")


def test_what_circusd_starts_does_without_click() -> None:
    program = "import sys; from service.cli import processes, wiring; print('click' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
