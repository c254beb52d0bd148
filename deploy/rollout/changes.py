"""How a new release differs from an old one: commits and packages."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rollout import sources
from rollout.errors import DeployError

MOST_COMMITS: Final = 50


def commits(project: Path, old: str, new: str) -> list[str]:
    """What comes, and what goes where the new commit does not stand on the old one."""
    git = ("git", "-C", str(project))
    try:
        sources.output(*git, "cat-file", "-e", f"{old}^{{commit}}")
    except DeployError:
        return [f"from {old[:7]}, which is no commit of this clone, to {new[:7]}"]
    lines = [f"{old[:7]} → {new[:7]}"]
    for title, words in (("", f"{old}..{new}"), ("goes: ", f"{new}..{old}")):
        found = sources.output(*git, "log", "--format=%h %s (%an)", words).splitlines()
        lines += [f"{title}{line}" for line in found[:MOST_COMMITS]]
        if len(found) > MOST_COMMITS:
            lines.append(f"{title}… and {len(found) - MOST_COMMITS} more")
    return lines


def packages(old: str, new: Mapping[str, str], built: Iterable[str] = ()) -> list[str]:
    """From the requirements.txt of a release to these names and versions. Of what is built, no version is known."""
    before = dict(_pinned(old.splitlines()))
    for built_one in map(canonicalize_name, built):
        if built_one not in new:
            before.pop(built_one, None)
    lines = []
    for name in sorted({*before, *new}):
        match before.get(name), new.get(name):
            case None, version:
                lines.append(f"+ {name} {version}")
            case version, None:
                lines.append(f"- {name} {version}")
            case one, other if one != other:
                lines.append(f"  {name} {one} → {other}")
    return lines


def _pinned(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        one = Requirement(line.partition(" --hash")[0])
        yield canonicalize_name(one.name), str(one.specifier).removeprefix("==")
