"""A workspace's .env: the project's example with values of ours. The standard library alone, as in places.py."""

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from service.workspaces.places import Home

EXAMPLES: Final = (".env.example", ".env.sample", ".env.dist")
LINE: Final = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*")
PLAIN: Final = re.compile(r"[A-Za-z0-9_@%+=:,./*-]*")
HEAD: Final = (
    "# The settings of this workspace. Its process reads them when it starts: after a change, restart the workspace.",
    "# SECRET_KEY stays as it is; the other values that docs/workspaces.md calls ours are written anew by an update.",
)
KEPT: Final = ("SECRET_KEY",)  # a second writing leaves it as it is


def read(text: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        if match and not line.lstrip().startswith("#"):
            found[match[1]] = _unquoted(match[2])
    return found


def merged(example: str, current: str, values: Mapping[str, str]) -> str:
    """The lines of today, or else a head and the example's, with these values; what they lack comes last."""
    before, known = read(current), read(example)
    wanted = {**values, **{name: before[name] for name in KEPT if before.get(name)}}
    if not wanted.get("SECRET_KEY"):
        wanted["SECRET_KEY"] = secrets.token_urlsafe(50)
    lines: list[str] = [] if current else [*HEAD]
    seen = set()
    for line in (current or example).splitlines():
        match = None if line.lstrip().startswith("#") else LINE.fullmatch(line)
        if match:
            seen.add(match[1])
            if match[1] in wanted:
                line = f"{match[1]}={_quoted(wanted[match[1]])}"
        lines.append(line)
    missing = {**known, **wanted}
    lines += [f"{name}={_quoted(value)}" for name, value in missing.items() if name not in seen]
    return "\n".join(lines) + "\n"


def lay(home: Home, values: Mapping[str, str]) -> None:
    """Writes a workspace's, where its code finds it. The paths are its own, unless the values say otherwise."""
    example = next((home.code / name for name in EXAMPLES if (home.code / name).is_file()), None)
    current = home.env.read_text(encoding="utf-8") if home.env.is_file() else ""
    text = example.read_text(encoding="utf-8", errors="replace") if example else ""
    paths = {
        "DATABASE_URL": f"sqlite:///{home.database}",
        "STATIC_ROOT": str(home.static),
        "MEDIA_ROOT": str(home.media),
    }
    write(home.env, merged(text, current, {**paths, **values}))
    if not os.path.lexists(home.code / ".env"):
        (home.code / ".env").symlink_to("../.env")


def write(file: Path, text: str) -> None:
    """Whoever reads sees the old one or the new one, and nobody but owner and group sees any."""
    beside = file.with_name(f"{file.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(descriptor)
    os.chmod(beside, 0o640)
    os.rename(beside, file)


def _quoted(value: str) -> str:
    if "\n" in value or "\r" in value:
        raise ValueError("a value in .env is one line")
    if PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    if len(value) >= 2 and value[0] == value[-1] == "'":
        return value[1:-1]
    return value.partition(" #")[0].rstrip()
