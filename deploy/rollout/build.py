"""Builds a release once, on this machine: wheels of a clean commit and of all that it requires, each with its checksum.

A project that has no package `service` is a team's own: it pins sandbox like any other package, and its own wheel, if
it makes one, is one of the team's.

Everything lies in .build/: wheels by checksum, what a commit and a requirements.txt gave, and the releases. The same
commit with the same requirements is not built twice.
"""

import hashlib
import io
import json
import re
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from rollout import glibc, packages, releases, report
from rollout.errors import DeployError, UsageError
from rollout.pythons import Interpreter, Python, interpreter
from rollout.sources import extract, output
from rollout.stage import Stage
from rollout.wheels import Wheels, write

PIP: Final = "pip==26.3"
VERSION: Final = re.compile(r'^(__version__ = "[^"+]+)"$', re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Built:
    id: str
    sha: str
    version: str
    pip: str  # <sha256>/<file name>: what installs the others
    wheels: Mapping[str, str]  # sha256: file name
    markers: Mapping[str, str]  # name of a requirement: where it is wanted, if not everywhere
    built: Mapping[str, Any]  # by whom, when, for what
    python: str = ""  # what it was built for
    libc: str = ""  # of the machine where it was built
    own: tuple[str, ...] = ()  # checksums of the wheels that no public index has: the project's and the team's


class Builder:
    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._project = stage.project
        self._folder = stage.folder / ".build"
        self.wheels = Wheels(self._folder)

    # --- commits ----------------------------------------------------------------------------------

    def commit(self) -> str:
        """The commit that the stage's ref names; what is not committed is never deployed by mistake."""
        ref = self._stage.ref
        try:
            sha = self._git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").strip()
        except DeployError:
            raise UsageError(f"{ref} is no commit of {self._project}; `ref` in the stage's file names it") from None
        changed = self._git("status", "--porcelain", "--untracked-files=no")
        if changed and sha == self._git("rev-parse", "HEAD").strip():
            raise DeployError(f"these changes are not committed, and would not be deployed:\n{changed.rstrip()}")
        return sha

    def _git(self, *words: str) -> str:
        return output("git", "-C", str(self._project), *words)

    # --- building ---------------------------------------------------------------------------------

    def build(self, python: Python, after: str = "") -> Built:
        """For hosts with this Python. `after`: the newest release that they have."""
        sha, by = self.commit(), self._by(python)
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch) / "source"
            extract(self._project, sha, source)
            wanted = self._wanted(source)
            required = self._wheels_of(wanted, by)
            project = self._wheel_of(source, sha, by)
            own = project | self._packages(source, sha, by)
        version = _version(project, sha)
        _refuse_twice((required | own).values())
        [pip] = [f"{digest}/{file}" for digest, file in required.items() if file.startswith("pip-")]
        built = Built(
            id=releases.name(datetime.now(UTC), sha, after),
            sha=sha,
            version=version,
            pip=pip,
            wheels=required | own,
            markers={canonicalize_name(one.name): str(one.marker) for one in wanted if one.marker},
            built=report.who(f"stage {self._stage.name}, ref {self._stage.ref}"),
            python=str(python),
            libc=glibc.OWN,
            own=tuple(own),
        )
        write(self._folder / "releases" / f"{built.id}.json", json.dumps(asdict(built), indent=2))
        return built

    def find(self, id: str) -> Built:
        try:
            return Built(**json.loads((self._folder / "releases" / f"{id}.json").read_text()))
        except OSError:
            raise DeployError(f"{id} was not built in this folder") from None

    def check(self, built: Built) -> None:
        """Are all of its wheels here, and what their checksums say?"""
        gone = [name for digest, name in built.wheels.items() if not self.wheels.is_whole(digest, name)]
        if gone:
            raise DeployError(f"{built.id} cannot be deployed from here: {', '.join(sorted(gone))} is gone or changed")

    def newest(self) -> str:
        ids = sorted(file.stem for file in (self._folder / "releases").glob("*.json"))
        if not ids:
            raise DeployError("nothing has been built in this folder; `fab STAGE deploy:build` does it")
        return ids[-1]

    def pins(self, sha: str) -> dict[str, str]:
        """What a release of this commit would have: names and versions, without building it."""
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch)
            extract(self._project, sha, source)
            wanted = self._wanted(source)
            found: dict[str, str] = {canonicalize_name(one.name): str(one.specifier)[2:] for one in wanted}
            if is_sandbox(source):
                found["sandbox"] = _set_version(source, sha)
        return found

    def pinned_wheels(self, file: Path, python: Python) -> tuple[dict[str, Path | bytes], str]:
        """Of another requirements.txt: wheels, with a requirements.txt of their checksums; and a name for all."""
        wheels = self._wheels_of(_requirements(file), self._by(python))
        found: dict[str, Path | bytes] = {name: self.wheels.file(digest, name) for digest, name in wheels.items()}
        text = "".join(requirement_lines(wheels, {}))
        return {**found, "requirements.txt": text.encode()}, hashlib.sha256(text.encode()).hexdigest()[:16]

    def _wanted(self, source: Path) -> list[Requirement]:
        return [*_requirements(source / "requirements.txt"), *packages.pinned(self._stage)]

    def _by(self, python: Python) -> Interpreter:
        return interpreter(python, self._folder / "pythons")

    def _wheels_of(self, wanted: list[Requirement], by: Interpreter) -> dict[str, str]:
        """For every host: where a marker leaves one out is decided there."""
        pins = sorted(f"{one.name}{one.specifier}" for one in wanted)
        key = hashlib.sha256("\n".join([PIP, *pins]).encode()).hexdigest()
        return self.wheels.of("requirements", key, "--no-deps", *pins, PIP, by=by)

    def _wheel_of(self, source: Path, sha: str, by: Interpreter) -> dict[str, str]:
        if is_sandbox(source):
            _set_version(source, sha)
        if not packages.makes_a_wheel(source):
            return {}
        return self.wheels.of("projects", sha, "--no-deps", *packages.isolation(source, by), str(source), by=by)

    def _packages(self, source: Path, sha: str, by: Interpreter) -> dict[str, str]:
        """The team's, from folders and commits; those that are only pinned are wheels like all others."""
        found: dict[str, str] = {}
        for one in packages.from_source(self._stage):
            with one.unpacked(source, sha, by) as (key, words):
                found |= self.wheels.of("packages", key, "--no-deps", *words, by=by)
        return found

    # --- for the hosts ----------------------------------------------------------------------------

    def wheels_tar(self, built: Built, missing: list[str]) -> bytes:
        names = {digest: built.wheels[digest] for digest in missing}
        return tar({f"{digest}/{name}": self.wheels.file(digest, name) for digest, name in names.items()})


def release_tar(built: Built) -> bytes:
    return tar(
        {
            "RELEASE.json": json.dumps(asdict(built), indent=2).encode(),
            "requirements.txt": requirements(built).encode(),
        }
    )


def requirements(built: Built) -> str:
    return "".join(requirement_lines(built.wheels, built.markers))


def requirement_lines(wheels: Mapping[str, str], markers: Mapping[str, str]) -> list[str]:
    """Every wheel but pip's, pinned by its checksum."""
    lines = []
    for digest, file in wheels.items():
        name, version = file.split("-")[:2]
        if name != "pip":
            marker = markers.get(canonicalize_name(name))
            where = f" ; {marker}" if marker else ""
            lines.append(f"{name}=={version}{where} --hash=sha256:{digest}\n")
    return sorted(lines, key=str.lower)


def is_sandbox(source: Path) -> bool:
    return (source / "service" / "__init__.py").exists()


def _version(project: Mapping[str, str], sha: str) -> str:
    """As the project's wheel has it."""
    return next((file.split("-")[1] for file in project.values()), sha[:7])


def _refuse_twice(files: Iterable[str]) -> None:
    counted = Counter(canonicalize_name(file.split("-")[0]) for file in files)
    if twice := sorted(name for name, count in counted.items() if count > 1):
        raise DeployError(
            f"there are two wheels of {', '.join(twice)}: `packages` names what requirements.txt pins, too"
        )


def _requirements(file: Path) -> list[Requirement]:
    """What the project pins: a name, one version, and perhaps a marker."""
    if not file.exists():
        return []
    lines = [line.partition(" #")[0].strip() for line in file.read_text().splitlines()]
    try:
        found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    except InvalidRequirement as error:
        raise DeployError(f"{file.name}: {error}") from error
    for one in found:
        if not re.fullmatch(r"==[^*,]+", str(one.specifier)):
            raise DeployError(f"{file.name}: {one} is not pinned; it must name one version, as in flask==3.1.3")
    return found


def _set_version(source: Path, sha: str) -> str:
    """The version tells the commit: in the wheel's name, in `sandbox version`, in Sentry."""
    module = source / "service" / "__init__.py"
    text, count = VERSION.subn(rf'\1+g{sha[:7]}"', module.read_text())
    if count != 1:
        raise DeployError('service/__init__.py has no line of the form __version__ = "1.2.3"')
    module.write_text(text)
    found = re.search(r'^__version__ = "(.*)"$', text, re.MULTILINE)
    assert found
    return found[1]


def tar(members: Mapping[str, Path | bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, member in members.items():
            content = member if isinstance(member, bytes) else member.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()
