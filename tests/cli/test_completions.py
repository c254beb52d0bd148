"""Words are completed in real shells."""

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from service.cli import suggest
from tests.cli.conftest import Command
from tests.cli.scripted import Script
from tests.cli.terminal import Terminal
from tests.servers import BUSY
from tests.system.instance import SANDBOX, Instance

PROGRAMS = Path(sys.executable).parent
ASKED = """
eval "$(sandbox completion bash)"
COMP_WORDS=({words}); COMP_CWORD={number}
_sandbox_completion sandbox
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completed(running: Instance, *words: str) -> set[str]:
    script = ASKED.format(words=" ".join(f"'{word}'" for word in ("sandbox", *words)), number=len(words))
    done = running.run("bash", "--norc", "-c", script, PATH=f"{PROGRAMS}:/usr/bin:/bin")
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_completes_commands_options_and_types(running: Instance) -> None:
    assert completed(running, "ta") == {"task"}
    assert completed(running, "task", "c") == {"cancel", "create"}
    assert completed(running, "task", "create", "--del") == {"--delay"}
    assert completed(running, "task", "create", "or") == {"order"}
    assert completed(running, "task", "list", "--status", "suc") == {"succeeded"}
    assert completed(running, "types", "ord") == {"order"}
    assert completed(running, "type", "pause", "ord") == {"order"}


def test_without_a_service_no_type_is_suggested_and_nothing_is_said(folder: Path) -> None:
    assert completed(Instance(folder), "task", "create", "ec") == set()


def test_bash_completes_as_one_types(running: Instance) -> None:
    environment = {**running.environment, "PATH": f"{PROGRAMS}:/usr/bin:/bin", "PS1": "ready> "}
    with Terminal("bash", "--norc", "-i", environment=environment) as shell:
        shell.types('eval "$(sandbox completion bash)"; echo do"ne"\n')
        assert shell.shows("done\r\n")
        shell.types("sandbox task crea\t")
        assert shell.shows("sandbox task create ")
        shell.types("\x15exit\n")
        assert shell.ends() == 0


def program_of(shell: str) -> str:
    if (program := shutil.which(shell)) is None:
        pytest.skip(f"{shell} is not installed; `apt-get install {shell}` does it")
    return program


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_take_their_script(running: Instance, sandbox: Command, shell: str) -> None:
    script = sandbox("completion", shell).stdout
    assert "_SANDBOX_COMPLETE" in script
    assert subprocess.run((program_of(shell), "-n"), input=script, text=True, check=False).returncode == 0


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_complete_as_one_types(
    running: Instance, sandbox: Command, tmp_path: Path, shell: str
) -> None:
    environment = {**running.environment, "PATH": f"{PROGRAMS}:/usr/bin:/bin", "HOME": str(tmp_path)}
    environment["ZDOTDIR"] = str(tmp_path)
    words = 'autoload -Uz compinit; compinit -u -D; eval "$(sandbox completion zsh)"'
    (tmp_path / ".zshrc").write_text(f"unsetopt beep; PS1='> '; {words}")
    scripts = tmp_path / ".config/fish/completions"
    scripts.mkdir(parents=True)
    (scripts / "sandbox.fish").write_text(sandbox("completion", "fish").stdout)
    with Terminal(program_of(shell), "-i", environment=environment) as terminal:
        terminal.types("echo rea''dy\r")
        assert terminal.shows("ready\r\n"), terminal.shown
        for typed, completed in (
            ("sandbox task cre", "create"),
            ("sandbox task create or", "order"),
            ("sandbox queue pause si", "side"),
            ("sandbox task list --crea", "--created-"),
        ):
            terminal.shown = ""
            terminal.types(f"\x15{typed}\t")
            assert terminal.shows(completed, 60), terminal.shown
        terminal.types("\x15exit\r")
        terminal.ends()


def test_fish_is_told_all_of_a_help_that_has_commas(running: Instance) -> None:
    """Its script takes what stands before the first comma for the kind; the rest is the word and its help."""
    done = running.run(*SANDBOX, "completion", "fish")
    assert 'string split -m 1 "," $completion' in done.stdout


ANYWHERE, NAME = click.Context(click.Command("any")), click.Argument(["name"])
HOSTILE = ["or;id", "or`id`", "or$(id)", "or\x1b[2J", "or\nid", "or der", "or'", "--order", "órder", "", 7, None]


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        ({"types": [{"type": name} for name in [*HOSTILE, "order.new_1-a"]]}, ["order.new_1-a"]),
        ({"types": [1]}, []),
        ({"types": 1}, []),
        ({"types": None}, []),
        ({}, []),
    ],
)
def test_only_names_that_say_nothing_to_a_shell_are_suggested(script: Script, answer: object, names: list[str]) -> None:
    script((200, {}, answer))
    assert suggest.types(ANYWHERE, NAME, "") == names


def test_a_service_that_does_not_answer_holds_a_tab_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setenv("SANDBOX_URL", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        began = time.monotonic()
        assert suggest.types(ANYWHERE, NAME, "") == []
        assert time.monotonic() - began < 3 * BUSY
