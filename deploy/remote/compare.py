"""Compares files with what is on this host, and changes nothing. Given on standard input, as JSON: {"files": [{path,
owner, group, mode, content}], "secrets": [names], "key": random hex digits}. Prints {"files": {path: how it differs, or
null}, "requirements" and "release": what the files of `current` say}.

The value of a secret leaves the host neither old nor new: a hash by the key tells whether it is another one. In the
settings, whatever the stage does not name in clear counts as one: it may have been one before.
"""

import difflib
import grp
import hashlib
import json
import os
import pwd
import re
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

given = json.load(sys.stdin)
key = bytes.fromhex(given["key"])
SETTINGS = "/etc/default/sandbox"
current = Path(os.environ["ROOT"], "current")


def read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def of_the_release(name: str) -> str:
    """Only what is deploy's own, who may have put a link or a pipe there."""
    try:
        descriptor = os.open(current / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor) as file:
            found = os.fstat(descriptor)
            is_deploys = stat.S_ISREG(found.st_mode) and found.st_uid == pwd.getpwnam("deploy").pw_uid
            return file.read() if is_deploys else ""
    except (OSError, KeyError):
        return ""


def masked(text: str, file: Mapping[str, Any]) -> list[str]:
    shown = set(re.findall(r"(?m)^(\w+)=", file["content"])) - set(given["secrets"])

    def mask(found: re.Match[str]) -> str:
        if found[1] in shown:
            return found[0]
        return f"{found[1]}=*** ({hashlib.blake2b(found[2].encode(), key=key, digest_size=4).hexdigest()})"

    return (re.sub(r"(?m)^([^=\n]*)=(.*)$", mask, text) if file["path"] == SETTINGS else text).splitlines()


def name_of(look_up: Callable[[int], Sequence[Any]], number: int) -> str:
    try:
        return str(look_up(number)[0])
    except KeyError:
        return str(number)


def rights(path: Path) -> str:
    now = path.stat()
    return f"{name_of(pwd.getpwuid, now.st_uid)}:{name_of(grp.getgrgid, now.st_gid)} {now.st_mode & 0o7777:o}"


def difference(file: Mapping[str, Any]) -> str | None:
    path = Path(file["path"])
    before = read(path)
    if before is None:
        return f"new, {len(file['content'].splitlines())} lines"
    lines: list[str] = []
    wanted = f"{file['owner']}:{file['group']} {file['mode']:o}"
    if rights(path) != wanted:
        lines.append(f"{rights(path)} becomes {wanted}")
    names = (f"{path} (on the host)", f"{path} (rendered)")
    lines += difflib.unified_diff(masked(before, file), masked(file["content"], file), *names, n=2, lineterm="")
    return "\n".join(lines) or None


json.dump(
    {
        "files": {file["path"]: difference(file) for file in given["files"]},
        "requirements": of_the_release("requirements.txt"),
        "release": json.loads(of_the_release("RELEASE.json") or "{}"),
    },
    sys.stdout,
)
