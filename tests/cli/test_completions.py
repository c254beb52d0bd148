"""Words are completed in real shells."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.cli.terminal import Terminal
from tests.system.instance import Instance

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


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_take_their_script(running: Instance, sandbox: Command, shell: str) -> None:
    script = sandbox("completion", shell).stdout
    assert "_SANDBOX_COMPLETE" in script
    if program := shutil.which(shell):
        assert subprocess.run((program, "-n"), input=script, text=True, check=False).returncode == 0
