"""The file of API tokens: a line `name scope sha256` for each.

A token is 256 random bits, so a plain hash protects it: nobody can guess it. The scope `write` includes `read`.
"""

import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from service.errors import InvalidToken

READ: Final = "read"
WRITE: Final = "write"
SCOPES: Final = (READ, WRITE)
PREFIX: Final = "sbx_"
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
OWNER_ONLY: Final = 0o600
HASH: Final = re.compile(r"[0-9a-f]{64}")


class Token(NamedTuple):
    name: str
    scope: str
    hash: str


def hash_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def read(path: Path) -> list[Token]:
    """The file's tokens; none if there is no file yet."""
    return [token for token in map(_parsed, _numbered(path)) if token]


def add(path: Path, name: str, scope: str) -> str:
    """Adds a token, and returns its secret, which is kept nowhere."""
    if not NAME.fullmatch(name):
        raise InvalidToken(f"{name!r} cannot name a token: letters, digits, '.', '_', '@' and '-', at most 64")
    if scope not in SCOPES:
        raise InvalidToken(f"the scope is {scope!r}; allowed is {' or '.join(SCOPES)}")
    secret = PREFIX + secrets.token_urlsafe(32)
    path = path.resolve()

    def added(lines: list[str]) -> list[str]:
        return [*lines, f"{name} {scope} {hash_of(secret)}"]

    with _alone(path):
        if any(token.name == name for token in read(path)):
            raise InvalidToken(f"there is a token {name} already; remove it first, or take another name")
        _rewrite(path, added)
    return secret


def remove(path: Path, name: str) -> None:
    def without(lines: list[str]) -> list[str]:
        return [line for line in lines if line.split()[:1] != [name]]

    path = path.resolve()
    with _alone(path):
        if all(token.name != name for token in read(path)):
            raise InvalidToken(f"there is no token {name}")
        _rewrite(path, without)


def _numbered(path: Path) -> Iterator[tuple[str, str]]:
    """Each line, with the place that an error names."""
    for number, line in enumerate(_lines(path), 1):
        yield f"{path}, line {number}", line


def _parsed(numbered: tuple[str, str]) -> Token | None:
    place, line = numbered
    words = line.partition("#")[0].split()
    if not words:
        return None
    if len(words) != 3 or not NAME.fullmatch(words[0]) or words[1] not in SCOPES or not HASH.fullmatch(words[2]):
        raise InvalidToken(f"{place}: a line is a name, a scope ({' or '.join(SCOPES)}) and a SHA-256")
    return Token(*words)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise InvalidToken(f"{path} is no text: {error}") from error


def _rewrite(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Replaces the file in one step: a reader sees the old one or the new one."""
    lines = change(_lines(path))
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _write(draft, lines)
        if path.exists():
            _keep_owner_and_mode(path, draft)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InvalidToken(f"{path} cannot be written: {error.strerror}; nothing has changed") from error


def _write(draft: Path, lines: list[str]) -> None:
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY)
    with open(descriptor, "w") as file:
        file.write("".join(f"{line}\n" for line in lines))
        file.flush()
        os.fsync(descriptor)


def _keep_owner_and_mode(path: Path, draft: Path) -> None:
    former = path.stat()
    try:
        os.chown(draft, former.st_uid, former.st_gid)
    except PermissionError as error:
        draft.unlink()
        raise InvalidToken(f"{path} belongs to another user or group; change it as that user, or as root") from error
    draft.chmod(stat.S_IMODE(former.st_mode))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """While this lasts, nobody else changes the file. Whoever can open the lock can hold it: so its owner alone can."""
    lock = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, OWNER_ONLY)
    except OSError as error:
        raise InvalidToken(
            f"{lock} cannot be used: {error.strerror}; change the tokens as the user who owns it"
        ) from error
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            os.fchmod(descriptor, OWNER_ONLY)  # earlier releases let others read it
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
