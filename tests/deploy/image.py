"""A Dockerfile, done by hand: no engine runs where the tests do. Needs root.

Each stage is an overlay over this machine's own disk, which stands for the image that it begins with; what is written
goes into memory and is gone with the test. Only the first stage reaches the network, as only that one is meant to.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.servers import eventually

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KEEPER = 'mount --make-rprivate / && mount -t tmpfs tmpfs "$1" && touch "$2" && exec sleep infinity'
MAKE_ROOT = """
set -e
mkdir -p "$1/up" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/up,workdir=$1/work" "$1/root"
mount --bind /dev "$1/root/dev"
mount -t proc proc "$1/root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$1/root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$1/root/run"
"""
RUN = 'ip link set lo up && mount -t proc proc "$0/proc" && exec "$@"'


class Instruction(NamedTuple):
    name: str
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)

    @property
    def array(self) -> list[str]:
        """Of the exec form."""
        found: list[str] = json.loads(self.text)
        return found


def instructions(text: str) -> list[Instruction]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def context_of(project: Path, ignored: str, target: Path) -> None:
    """What is sent to the engine: the last pattern that fits decides."""
    patterns = [line for line in ignored.splitlines() if line and not line.startswith("#")]
    assert patterns[0] == "*"
    kept = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    never = [pattern.removeprefix("**/") for pattern in patterns if pattern.startswith("**/")]
    assert len(patterns) == 1 + len(kept) + len(never)
    target.mkdir()
    for name in kept:
        if (project / name).is_dir():
            shutil.copytree(project / name, target / name, ignore=shutil.ignore_patterns(*never))
        else:
            shutil.copy(project / name, target / name)


class Stage:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {"PATH": PATH}
        self.user = "0:0"
        self.folder = "/"
        self.volumes: list[str] = []
        self.stop_signal = ""
        self.entry: list[str] = []
        self.command: list[str] = []
        self.health: list[str] = []


class Builder:
    def __init__(self, folder: Path, context: Path) -> None:
        self._folder = folder
        self._context = context
        self._arguments: dict[str, str] = {}
        self._named: dict[str, Stage] = {}
        (folder / "disk").mkdir()
        began = folder / "began"
        words = ("unshare", "--mount", "--fork", "--kill-child", "bash", "-c", KEEPER, "keeper", folder / "disk", began)
        self._keeper = subprocess.Popen([str(word) for word in ("setpriv", "--pdeathsig", "KILL", *words)])
        eventually(began.exists)

    def end(self) -> None:
        """The kernel forgets the disks with their last process."""
        for process in reversed(psutil.Process(self._keeper.pid).children(recursive=True)):
            process.kill()
        self._keeper.kill()
        self._keeper.wait()

    @property
    def _inside(self) -> tuple[str, ...]:
        [keeper] = eventually(lambda: psutil.Process(self._keeper.pid).children())
        return ("nsenter", f"--target={keeper.pid}", "--mount")

    def do(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [*self._inside, *map(str, words)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not check, f"{shlex.join(map(str, words))}\n{done.stdout}{done.stderr}"
        return done

    def build(self, text: str) -> Stage:
        """Returns the last stage."""
        stage: Stage | None = None
        for number, instruction in enumerate(instructions(text)):
            if instruction.name == "FROM":
                stage = self._begin(instruction, self._folder / "disk" / str(number))
            elif instruction.name == "ARG":
                name, _, value = instruction.text.partition("=")
                self._arguments[name] = value
            else:
                assert stage is not None
                getattr(self, f"_{instruction.name.lower()}")(stage, instruction)
        assert stage is not None
        return stage

    def _begin(self, instruction: Instruction, folder: Path) -> Stage:
        image, *named = instruction.words
        for name, value in self._arguments.items():
            image = image.replace(f"${{{name}}}", value)
        assert re.fullmatch(r"python:3\.\d+(-slim)?-bookworm", image)
        self.do("sh", "-c", MAKE_ROOT, "sh", folder)
        stage = Stage(folder / "root")
        if named:
            self._named[named[1]] = stage
        return stage

    def _run(self, stage: Stage, instruction: Instruction) -> None:
        first = stage is next(iter(self._named.values()))
        variables = stage.environment | {"HOME": "/root"}
        if first:
            variables |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        alone = () if first else ("unshare", "--net")
        shell = ("sh", "-c", f"cd {shlex.quote(stage.folder)} && {instruction.text}")
        self.do(*alone, "chroot", f"--userspec={stage.user}", stage.root, "env", "-i", *_pairs(variables), *shell)

    def _copy(self, stage: Stage, instruction: Instruction) -> None:
        words = instruction.words
        source = self._context
        if words[0].startswith("--from="):
            source = self._named[words.pop(0).removeprefix("--from=")].root
        *names, target = words
        place = Path(stage.folder, target)
        into = f"{stage.root}{place}"
        if len(names) > 1 or target.endswith("/"):
            self.do("mkdir", "-p", into)
        for name in names:
            found = Path(f"{source}/{name.lstrip('/')}")
            is_folder = self.do("test", "-d", found, check=False).returncode == 0
            if is_folder:
                self.do("mkdir", "-p", into)
            self.do("cp", "-a", "--no-preserve=ownership", f"{found}/." if is_folder else found, into)

    def _env(self, stage: Stage, instruction: Instruction) -> None:
        for word in instruction.words:
            name, _, value = word.partition("=")
            stage.environment[name] = re.sub(r"\$(\w+)", lambda found: stage.environment[found[1]], value)

    def _workdir(self, stage: Stage, instruction: Instruction) -> None:
        stage.folder = instruction.text
        self.do("mkdir", "-p", f"{stage.root}{stage.folder}")

    def _user(self, stage: Stage, instruction: Instruction) -> None:
        stage.user = instruction.text

    def _volume(self, stage: Stage, instruction: Instruction) -> None:
        stage.volumes += instruction.words

    def _expose(self, stage: Stage, instruction: Instruction) -> None:
        """Says it to people only."""

    def _stopsignal(self, stage: Stage, instruction: Instruction) -> None:
        stage.stop_signal = instruction.text

    def _healthcheck(self, stage: Stage, instruction: Instruction) -> None:
        stage.health = json.loads(instruction.text.partition("CMD ")[2])

    def _entrypoint(self, stage: Stage, instruction: Instruction) -> None:
        stage.entry = instruction.array

    def _cmd(self, stage: Stage, instruction: Instruction) -> None:
        stage.command = instruction.array

    # --- a container ------------------------------------------------------------------------------

    def start(self, stage: Stage, *, files: dict[str, Path], **variables: str) -> "Container":
        """As docker-compose.yml has it: nothing can be written but the volumes and /tmp; files are secrets."""
        for volume in stage.volumes:
            self.do("mount", "-t", "tmpfs", "-o", "mode=750,uid=10001,gid=10001", "tmpfs", f"{stage.root}{volume}")
        for place, file in files.items():
            self.do("install", "-D", "-m", "444", file, f"{stage.root}{place}")
        self.do("mount", "-o", "remount,ro", stage.root)
        environment = stage.environment | variables
        alone = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "bash", "-c", RUN, str(stage.root))
        chroot = ("chroot", f"--userspec={stage.user}", str(stage.root), "env", "-i", *_pairs(environment))
        shell = ("sh", "-c", 'cd "$0" && exec "$@"', stage.folder)
        words = [*self._inside, *alone, *chroot, *shell, *stage.entry, *stage.command]
        with (self._folder / "said").open("wb") as said:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        return Container(process, stage, environment, self._folder / "said")


def _pairs(environment: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in environment.items()]


class Container:
    """A first process in namespaces of its own."""

    def __init__(
        self, process: subprocess.Popen[bytes], stage: Stage, environment: Mapping[str, str], said: Path
    ) -> None:
        self._process = process
        self._stage = stage
        self._environment = environment
        self._said = said

    @property
    def said(self) -> str:
        return self._said.read_text()

    @property
    def first(self) -> psutil.Process:
        """Below unshare."""
        [process] = eventually(lambda: psutil.Process(self._process.pid).children())
        return process

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """As `docker exec` does."""
        user, group = self._stage.user.split(":")
        inside = ("nsenter", f"--target={self.first.pid}", "--all", f"--setuid={user}", f"--setgid={group}", "--root")
        command = [*inside, "--wd", "env", "-i", *_pairs(self._environment), *words]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    @property
    def is_healthy(self) -> bool:
        return self.run(*self._stage.health).returncode == 0

    def stop(self, seconds: float) -> int:
        """Returns the exit code of its first process."""
        self.first.send_signal(signal.Signals[self._stage.stop_signal])
        return self._process.wait(seconds)
