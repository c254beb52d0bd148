"""What a deploy would do, without doing it: `fab STAGE plan` connects and reads.

It takes no lock, builds nothing, and leaves every host as it is, to the byte.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

from rollout import changes, order, phases, pythons, releases, templates
from rollout.beside import side_by_side
from rollout.errors import DeployError
from rollout.host import Host
from rollout.pythons import Python
from rollout.roll import Roll
from rollout.switchover import groups
from rollout.tasks import Tasks

# What each phase does, and whether on all hosts side by side, on the first, here, or host by host.
WHAT: Final = {
    "check": ("all", "Python, room, freeze"),
    "build": ("here", "wheels of the commit and of what it pins"),
    "upload": ("all", "the wheels that a host lacks, as deploy"),
    "install": ("all", "a virtualenv of its own, without any index, as deploy"),
    "link": ("all", "`package`, as deploy"),
    "config": ("all", "the files above, as root"),
    "migrate": ("first", "as sandbox: {migrate}"),
    "warm": ("all", "imports and `sandbox check`, as sandbox; then the release is complete"),
    "switch": ("each", "`current` names the release, as deploy"),
    "reload": ("each", "circusctl reload, as deploy; a start as root where it does not run"),
    "verify": ("each", "/health/ready for {verify_seconds} s, and a task {verify_task}"),
    "cleanup": ("all", "keeps {keep} good releases, as deploy"),
}


@dataclass(frozen=True)
class Seen:
    """What one host has."""

    has: releases.OnHost
    files: Mapping[str, str | None]  # path: how it differs
    requirements: str
    release: Mapping[str, Any]  # its RELEASE.json
    refusal: str  # of the phase check
    python: Python | None  # None if that is refused


def show(roll: Roll) -> None:
    sha = roll.builder.commit()
    pins = roll.builder.pins(sha)
    rendered = {
        "files": [vars(file) for file in templates.files(roll.stage, roll.secrets)],
        "secrets": list(roll.secrets),
        "key": token_hex(32),
    }
    with roll.connected():
        seen = side_by_side(roll.hosts, lambda host: _look(roll, host, rendered))
    print(f"{roll.stage.name}: {roll.stage.ref} is {sha[:7]}")
    if refusal := pythons.difference({str(host): one.python for host, one in seen.items() if one.python}):
        print(f"check would refuse: {refusal}")
    for hosts, lines in _alike({host: _changes(roll, one, sha, pins) for host, one in seen.items()}):
        print(f"\n{', '.join(map(str, hosts))}")
        print("\n".join(f"  {line}" for line in lines))
    print("\nin this order")
    for line in in_order(roll):
        print(f"  {line}")


def _look(roll: Roll, host: Host, rendered: Mapping[str, Any]) -> Seen:
    found = json.loads(host.ask("compare.py", stdin=json.dumps(rendered).encode()))
    python, refusal = None, ""
    try:
        python = phases.check(host, roll.stage, [])
    except DeployError as error:
        refusal = str(error)
    return Seen(phases.look(host), found["files"], found["requirements"], found["release"], refusal, python)


def _alike(lines: Mapping[Host, list[str]]) -> Iterator[tuple[list[Host], list[str]]]:
    """Hosts for which the same is to be said stand together."""
    said: list[list[str]] = []
    for each in lines.values():
        said += [each] if each not in said else []
    for each in said:
        yield [host for host, one in lines.items() if one == each], each


def _changes(roll: Roll, seen: Seen, sha: str, pins: Mapping[str, str]) -> list[str]:
    lines = [f"check would refuse: {seen.refusal}"] if seen.refusal else []
    current = next((one for one in seen.has.releases if one.id == seen.has.current), None)
    lines += _section("commits", _commits(roll, current, sha))
    lines += _section("packages", [*changes.packages(seen.requirements, pins, _own(seen.release)), *_built(roll)])
    changed = {path: text for path, text in seen.files.items() if text}
    lines += _section("files", [line for path, text in changed.items() for line in f"{path}: {text}".splitlines()])
    return lines


def _section(title: str, lines: list[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines or ["no change"])]


def _own(release: Mapping[str, Any]) -> set[str]:
    """Packages of the team in a release; their versions are known when they are built."""
    return {release["wheels"][digest].split("-")[0] for digest in release.get("own", ())}


def _built(roll: Roll) -> list[str]:
    folders = [word for word in roll.stage.packages if "==" not in word or word.startswith("git+")]
    return [f"{word}: built anew if it has changed" for word in folders]


def _commits(roll: Roll, current: releases.Release | None, sha: str) -> list[str]:
    if current is None:
        return [f"the first release, of {sha[:7]}"]
    if current.sha == sha:
        return []
    return changes.commits(roll.stage.project, current.sha, sha)


def in_order(roll: Roll) -> Iterator[str]:
    """The phases with their hooks, as a deploy goes through them."""
    tasks, stage = roll.team.tasks, roll.stage
    words = {key: getattr(stage, key) for key in ("verify_seconds", "verify_task", "keep")}
    words["migrate"] = stage.migrate or "nothing"
    for name in tasks.order(order.PREPARE):
        yield from _phase(name, tasks, words)
    named = [", ".join(map(str, group)) for group in groups(roll.hosts, roll.stage.parallel)]
    yield f"then, one after the other: {'; '.join(named)}"
    for name in ("take_out", *order.PUT, "put_back"):
        if name in WHAT or tasks.files(name):
            yield from (f"  {line}" for line in _phase(name, tasks, words))
    yield f"and if one fails: back on {'all of them' if stage.on_failure == 'all' else 'those that failed'}"
    yield from _phase("cleanup", tasks, words)


def _phase(name: str, tasks: Tasks, words: Mapping[str, Any]) -> Iterator[str]:
    where, what = WHAT.get(name, ("each", f"({', '.join(tasks.files(name))})"))
    if name in tasks.phases:
        own = tasks.phases[name]
        where, what = "first" if own.first_host_only else "all", f"({own.file})"
    places = {"all": "all hosts", "first": "first host", "here": "here", "each": "each"}
    for hook in (f"before_{name}", f"after_{name}"):
        for file in tasks.files(hook):
            what += f"; {hook} ({file})"
    yield f"{name:<8} {places[where]:<10} {what.format_map(words)}"
