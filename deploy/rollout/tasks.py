"""A team's own part of a deploy: the modules in tasks/ (`tasks` in deploy.toml names other folders, too).

A module has functions named `before_<phase>` and `after_<phase>`, `take_out` and `put_back` for a load balancer, and
phases of its own, marked with @phase. Each is called with one host (Target). An error in it is an error of the phase.
"""

import functools
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Protocol

from rollout.errors import DeployError, UsageError
from rollout.order import ALL
from rollout.stage import Stage

if TYPE_CHECKING:
    from rollout.host import Host

BALANCER: Final = ("take_out", "put_back")
BEFORE_COMPLETE: Final = ("upload", "install", "link", "config", "migrate")  # after which a phase of a team may come
MORE: Final = ("restart",)  # a command that has hooks, too

Call = Callable[["Target"], Any]


class Where(Protocol):
    """What runs a script: a host, or this machine."""

    def change_by(self, text: str, *words: str, name: str, user: str, stdin: bytes, seconds: int) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a team's function is given: one host, in one phase of one release."""

    stage: str
    host: str  # as the stage's file names it; `-` is this machine, in the phase build
    phase: str
    release: str  # its name; empty where there is none yet
    _where: Where = field(repr=False)
    _remarks: list[str] = field(repr=False)

    def run(self, script: str, *words: str, user: str = "root", stdin: str = "", seconds: int = 60) -> str:
        """Runs a script of bash on the host, under the lock and a time-out, and returns what it printed.

        The words are its $1, $2 and so on; $ROOT is /srv/sandbox. A secret belongs into `stdin`, never into the words.
        """
        return self._where.change_by(
            script, *words, name=f"a script of {self.phase}", user=user, stdin=stdin.encode(), seconds=seconds
        )

    def say(self, text: str) -> None:
        """The text stands in the line of the phase."""
        self._remarks.append(text)


class Here:
    """This machine, in the folder of the project: where `build` has its hooks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def change_by(self, text: str, *words: str, name: str, user: str, stdin: bytes, seconds: int) -> str:
        command = ("bash", "-euo", "pipefail", "-c", text, name, *words)
        done = subprocess.run(command, input=stdin, cwd=self._folder, capture_output=True, timeout=seconds, check=False)
        if done.returncode != 0:
            raise DeployError(f"{name} ended with {done.returncode}\n{(done.stderr + done.stdout).decode().rstrip()}")
        return done.stdout.decode()


@dataclass(frozen=True)
class TeamPhase:
    name: str
    after: str
    first_host_only: bool
    call: Call
    file: str


def phase(*, after: str, first_host_only: bool = False) -> Callable[[Call], Call]:
    """Makes a function a phase of its own, with its line, its command `deploy:<name>` and its hooks.

    It comes after upload, install, link, config or migrate, on all hosts side by side, or only on the first.
    """

    def mark(call: Call) -> Call:
        call.team_phase = (after, first_host_only)  # type: ignore[attr-defined]
        return call

    return mark


@dataclass(frozen=True)
class Tasks:
    """All that the modules of some folders have."""

    hooks: dict[str, list[tuple[str, Call]]]  # by name: the file and the function
    phases: dict[str, TeamPhase]

    def order(self, names: Sequence[str]) -> tuple[str, ...]:
        """These phases, with those of the team in their places."""
        found: list[str] = []
        for name in names:
            found += [name, *(each.name for each in self.phases.values() if each.after == name)]
        return tuple(found)

    def call(self, hook: str, target: Target) -> None:
        for file, function in self.hooks.get(hook, []):
            call(file, function, target)

    def files(self, hook: str) -> list[str]:
        return [file for file, _ in self.hooks.get(hook, [])]


def call(file: str, function: Call, target: Target) -> None:
    try:
        function(target)
    except Exception as error:
        text = str(error) if isinstance(error, DeployError) else f"{type(error).__name__}: {error}"
        raise DeployError(f"{target.host}: {file}: {function.__name__}: {text}") from error


# --- loading -----------------------------------------------------------------------------------------


@functools.cache
def load(folder: Path, names: tuple[str, ...]) -> Tasks:
    """What the modules of these folders have; a relative one begins at deploy.toml's. `_*.py` is their own affair."""
    found = Tasks({}, {})
    for each in (folder / name for name in names):
        for file in sorted(each.glob("[!_]*.py")):
            sys.path += [str(each)] if str(each) not in sys.path else []
            for function in _functions(_module(file)):
                _sort_in(found, f"{each.name}/{file.name}", function)
    for hook in found.hooks:
        _check_hook(hook, found)
    return found


def _module(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"deploy_{file.parent.name}_{file.stem}", file)
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{file} cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def _functions(module: ModuleType) -> Iterator[Call]:
    for name, value in vars(module).items():
        if callable(value) and getattr(value, "__module__", "") == module.__name__ and not name.startswith("_"):
            yield value


def _sort_in(found: Tasks, file: str, function: Call) -> None:
    name = function.__name__
    if mark := getattr(function, "team_phase", None):
        if name in (*ALL, *MORE, *found.phases):
            raise UsageError(f"{file}: a phase {name} is there already; find another name")
        after, first_host_only = mark
        if after not in BEFORE_COMPLETE:
            raise UsageError(f"{file}: {name} comes after {after!r}; allowed is one of {', '.join(BEFORE_COMPLETE)}")
        found.phases[name] = TeamPhase(name, after, first_host_only, function, file)
    elif name in BALANCER or name.startswith(("before_", "after_")):
        found.hooks.setdefault(name, []).append((file, function))


def _check_hook(hook: str, found: Tasks) -> None:
    known, phase_name = (*ALL, *MORE, *found.phases), hook.partition("_")[2]
    if hook not in BALANCER and phase_name not in known:
        file = found.files(hook)[0]
        raise UsageError(f"{file}: {hook}: there is no phase {phase_name}; there are {', '.join(known)}")


# --- in a deploy -------------------------------------------------------------------------------------


class Team:
    """Calls a team's functions for the hosts of a stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.tasks = load(stage.folder, stage.tasks)
        self._out: set[Host] = set()

    @contextmanager
    def around(self, phase: str, where: "Host | None", id: str, remarks: list[str]) -> Iterator[None]:
        """The hooks of a phase; without a host it is this machine's."""
        target = self._target(phase, where, id, remarks)
        self.tasks.call(f"before_{phase}", target)
        yield
        self.tasks.call(f"after_{phase}", target)

    def calls(self, id: str) -> dict[str, Callable[["Host", list[str]], None]]:
        """The team's own phases, for one release."""
        return {name: partial(self._run, phase, id) for name, phase in self.tasks.phases.items()}

    def _run(self, phase: TeamPhase, id: str, host: "Host", remarks: list[str]) -> None:
        call(phase.file, phase.call, self._target(phase.name, host, id, remarks))

    def is_for_the_first(self, name: str) -> bool:
        return name in self.tasks.phases and self.tasks.phases[name].first_host_only

    def take_out(self, host: "Host", id: str, remarks: list[str]) -> None:
        """Of the load balancer; once, until it was put back."""
        if host not in self._out:
            self._out.add(host)
            self.tasks.call("take_out", self._target("take_out", host, id, remarks))

    def take_out_if_it_can(self, host: "Host", id: str, remarks: list[str]) -> None:
        """To go back matters more than the requests that a host still gets meanwhile."""
        try:
            self.take_out(host, id, remarks)
        except DeployError as error:
            remarks.append(str(error))

    def put_back(self, host: "Host", id: str, remarks: list[str]) -> None:
        self.tasks.call("put_back", self._target("put_back", host, id, remarks))
        self._out.discard(host)

    def _target(self, phase: str, where: "Host | None", id: str, remarks: list[str]) -> Target:
        return Target(
            stage=self._stage.name,
            host=where.address.rpartition("@")[2] if where else "-",
            phase=phase,
            release=id,
            _where=where or Here(self._stage.project),
            _remarks=remarks,
        )
