"""By which Python wheels are made: one of this machine that is like the hosts', in minor version and kind of machine.

It is fab's own if that is like it. Another one is looked for in PATH, as python3.13, and gets a virtualenv in .build/
with what a build requires.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement

from rollout.errors import DeployError
from rollout.sources import output

BUILDERS: Final = ("setuptools", "wheel")
ASK: Final = "import ensurepip, sys, sysconfig, venv; print('%d.%d' % sys.version_info[:2], sysconfig.get_platform())"


@dataclass(frozen=True)
class Python:
    """What wheels are made for."""

    version: str
    platform: str
    libc: str = field(default="", compare=False)  # the same wheels may do for an older one: glibc.py

    def __str__(self) -> str:
        return f"Python {self.version} ({self.platform})"


OWN: Final = Python("{}.{}".format(*sys.version_info[:2]), sysconfig.get_platform())


@dataclass(frozen=True)
class Interpreter:
    """Of this machine, with pip."""

    python: Python
    program: str
    path: tuple[str, ...]  # where its packages lie

    def has(self, requirement: str) -> bool:
        one = Requirement(requirement)
        found = distributions(name=one.name, path=list(self.path))
        return any(one.specifier.contains(each.version, prereleases=True) for each in found)


FABS: Final = Interpreter(OWN, sys.executable, tuple(sys.path))


def of(facts: Mapping[str, Any]) -> Python:
    """A host's."""
    return Python("{}.{}".format(*facts["python"]), facts["platform"], facts["libc"])


def common(found: Mapping[str, Python]) -> Python:
    """Of all hosts of a stage."""
    if told := difference(found):
        raise DeployError(told)
    return next(iter(found.values()))


def difference(found: Mapping[str, Python]) -> str:
    """A release has the same wheels on each host; an empty text if that can be."""
    if len(set(found.values())) <= 1:
        return ""
    each = ", ".join(f"{host} has {python}" for host, python in found.items())
    return f"one release cannot be for all hosts of the stage: {each}"


def program(wanted: Python) -> str:
    """Starts one that is like it."""
    if wanted == OWN:
        return sys.executable
    name = f"python{wanted.version}"
    for folder in os.get_exec_path():
        if _kind(found := str(Path(folder, name))) == wanted:
            return found
    raise DeployError(
        f"wheels for {wanted} cannot be made here: fab runs on {OWN}, and no {name} with its module venv is in PATH"
    )


def interpreter(wanted: Python, folder: Path) -> Interpreter:
    """For `pip wheel`; below `folder` are those that are not fab's own."""
    if wanted == OWN:
        return FABS
    pins = [f"{name}=={version(name)}" for name in BUILDERS]
    target = folder / "-".join([wanted.version, wanted.platform, *pins])
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = str(target / "bin" / "python")
        if not (target / "ready").exists() or _kind(made) != wanted:
            shutil.rmtree(target, ignore_errors=True)
            output(program(wanted), "-m", "venv", str(target))
            output(made, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *pins)
            (target / "ready").touch()
    return Interpreter(wanted, made, tuple(map(str, target.glob("lib/python*/site-packages"))))


def _kind(program: str) -> Python | None:
    """None if it does not start, or can make no virtualenv."""
    with suppress(OSError):
        done = subprocess.run([program, "-I", "-c", ASK], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return Python(*done.stdout.split())
    return None
