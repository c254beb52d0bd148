"""A stage: deploy.toml and stages/NAME.toml read into one frozen object. What is wrong is named with its file."""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final, NamedTuple

from rollout.errors import UsageError

COMMON: Final = "deploy.toml"
STAGES: Final = "stages"
SOURCE: Final = re.compile(r"(env|file|command):.+")
VARIABLE: Final = re.compile(r"[A-Z][A-Z0-9_]*")
HOST: Final = re.compile(r"([A-Za-z0-9._-]+@)?[A-Za-z0-9._-]+(:[0-9]{1,5})?")
DOMAIN: Final = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
PATH: Final = re.compile(r"/[A-Za-z0-9._/+-]*")
UNQUOTABLE: Final = re.compile(r"['\\\x00-\x08\x0a-\x1f\x7f]")  # of a value that a shell and systemd are to read alike


@dataclass(frozen=True, kw_only=True)
class Sentry:
    """Where the releases of a stage are told."""

    url: str
    organization: str
    projects: tuple[str, ...]
    token: str  # where it is found (secrets.py)


@dataclass(frozen=True, kw_only=True)
class Index:
    """The team's own package index."""

    host: str
    url: str  # by which people and hosts reach it
    listen: str
    port: int
    user: str
    name: str
    password: str  # of the user, and where it is found (secrets.py)
    mirror: str  # whose packages it has besides
    public: tuple[str, ...]  # names that are looked for in the mirror although the team has them, too

    @property
    def simple(self) -> str:
        return f"{self.url}/{self.user}/{self.name}/+simple/"


@dataclass(frozen=True, kw_only=True)
class Stage:
    name: str
    folder: Path  # of deploy.toml
    hosts: tuple[str, ...]
    ref: str
    keep: int
    parallel: int
    domain: str
    certificate: str
    certificate_key: str
    balancers: tuple[str, ...]
    requests_per_second: int
    requests_burst: int
    connections: int
    python: str
    on_failure: str
    migrate: str
    verify_task: str
    verify_seconds: int
    identity: str
    known_hosts: str
    environment: Mapping[str, str]
    secrets: Mapping[str, str]  # variable: where its value is found (secrets.py)
    packages: tuple[str, ...]  # with task types of the team
    tasks: tuple[str, ...]  # folders with the team's part of a deploy (tasks.py)
    workspaces: bool
    sentry: Sentry | None
    index: Index | None

    @property
    def project(self) -> Path:
        return self.folder.parent


class Wrong(Exception):
    """A part of a value is not what it must be; the text says which."""


class Key(NamedTuple):
    """How a value is read, what is taken where none is given (None: one must be), and what is allowed."""

    read: Callable[[Any], Any]
    default: Any
    allowed: str


def _like(pattern: re.Pattern[str]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError
        return value

    return read


def _whole(lowest: int, highest: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if type(value) is not int or not lowest <= value <= highest:
            raise ValueError
        return value

    return read


def _hosts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or len(set(value)) < len(value):
        raise ValueError
    return tuple(map(_like(HOST), value))


def _yes_or_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _networks(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(set(value)) < len(value):
        raise ValueError
    return tuple(str(ip_network(_TEXT(text))) for text in value)


def _environment(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError
    for name, text in value.items():
        if not VARIABLE.fullmatch(name) or not isinstance(text, str) or UNQUOTABLE.search(text):
            raise ValueError
    return value


def _secrets(value: Any) -> dict[str, str]:
    for name, source in dict(value).items():
        if not VARIABLE.fullmatch(name) or not SOURCE.fullmatch(source):
            raise ValueError
    return dict(value)


def _texts(pattern: re.Pattern[str]) -> Callable[[Any], tuple[str, ...]]:
    def read(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or len(set(value)) < len(value):
            raise ValueError
        return tuple(map(_like(pattern), value))

    return read


def _table(make: Callable[..., Any], keys: Mapping[str, Key]) -> Callable[[Any], Any]:
    """A table with keys of its own; what is wrong in it is named."""

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError
        if unknown := set(value) - set(keys):
            raise Wrong(f"there is no {unknown.pop()} in it; there are {', '.join(keys)}")
        found = {}
        for name, key in keys.items():
            given = value.get(name, key.default)
            try:
                found[name] = key.read(given)
            except (ValueError, TypeError):
                raise Wrong(f"its {name} is {given!r}; it is {key.allowed}") from None
        return make(**found)

    return read


_TEXT: Final = _like(re.compile(r"[^\n]*"))
_ABSOLUTE: Final = "an absolute path"
_NUMBER: Final = "a whole number"

PACKAGE: Final = re.compile(
    r"(\.\.?/|/)[^\n]+"  # a folder
    r"|[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?==[^*,\s]+"  # one version from an index
    r"|git\+(https|ssh|file)://[^\s@]*([^\s@]*@)?[^\s@]+@[0-9a-f]{40}(#subdirectory=[\w./-]+)?"
)
_WEB: Final = _like(re.compile(r"https?://[^\s/@]+(/[^\s@]*[^\s@/])?"))
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FOUND: Final = _like(SOURCE)
_WHERE: Final = "env:NAME, file:PATH or command:COMMAND"

SENTRY_KEYS: Final = {
    "url": Key(_WEB, "https://sentry.io", "the address of Sentry"),
    "organization": Key(_like(_NAME), None, "the short name of an organization"),
    "projects": Key(_texts(_NAME), None, "a list of the short names of projects"),
    "token": Key(_FOUND, None, f"where a token is found: {_WHERE}"),
}
INDEX_KEYS: Final = {
    "host": Key(_like(HOST), None, 'the host of the index, as in "root@packages.example.com"'),
    "url": Key(_WEB, None, 'its address for pip, as in "http://packages.example.com:3141", without a / at its end'),
    "listen": Key(_like(re.compile(r"[0-9a-f.:]+")), "127.0.0.1", "the address at which devpi-server listens"),
    "port": Key(_whole(1, 65535), 3141, "a port"),
    "user": Key(_like(re.compile("[a-z][a-z0-9-]*")), "team", "a name of small letters, digits and hyphens"),
    "name": Key(_like(re.compile("[a-z][a-z0-9-]*")), "stage", "a name of small letters, digits and hyphens"),
    "password": Key(_FOUND, None, f"where the user's password is found: {_WHERE}"),
    "mirror": Key(_like(re.compile(r"(https?://\S+/)?")), "", "the address of a simple index; without it, PyPI"),
    "public": Key(_texts(_NAME), [], "a list of names of packages"),
}

KEYS: Final = {
    "hosts": Key(_hosts, None, 'a list of hosts, as in ["root@a.example.com", "root@b.example.com:2222"], each once'),
    "ref": Key(_like(re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")), "main", "a branch, a tag or a commit"),
    "keep": Key(_whole(1, 100), 5, "a number of good releases from 1 to 100"),
    "parallel": Key(_whole(1, 100), 1, "a number of hosts from 1 to 100"),
    "domain": Key(_like(DOMAIN), None, "the name under which clients reach the service"),
    "certificate": Key(_like(PATH), None, f"{_ABSOLUTE} on the hosts"),
    "certificate_key": Key(_like(PATH), None, f"{_ABSOLUTE} on the hosts"),
    "balancers": Key(_networks, (), 'a list of IP addresses and networks, as in ["10.0.0.7", "fd00::/64"], each once'),
    "requests_per_second": Key(_whole(1, 1_000_000), 500, f"{_NUMBER} from 1 to 1000000, for each address of a client"),
    "requests_burst": Key(_whole(0, 1_000_000), 1000, f"{_NUMBER} from 0 to 1000000, for each address of a client"),
    "connections": Key(_whole(1, 65535), 500, f"{_NUMBER} from 1 to 65535, for each address of a client"),
    "python": Key(_like(PATH), "/usr/bin/python3", f"{_ABSOLUTE} on the hosts"),
    "on_failure": Key(_like(re.compile("all|stop")), "all", '"all" or "stop"'),
    "migrate": Key(_TEXT, "", "a command; $RELEASE is the folder of the release"),
    "verify_task": Key(_like(re.compile(r"[A-Za-z0-9._-]+")), "echo", "a task type that needs no arguments"),
    "verify_seconds": Key(_whole(1, 600), 5, "seconds from 1 to 600"),
    "identity": Key(_TEXT, "", "the file of an ssh key; without it, what ssh itself would use"),
    "known_hosts": Key(_TEXT, "", "a file like ~/.ssh/known_hosts, which is read in any case"),
    "environment": Key(_environment, {}, "names of variables with texts without ', \\ and control characters"),
    "secrets": Key(_secrets, {}, f"names of variables, each with {_WHERE}"),
    "packages": Key(
        _texts(PACKAGE),
        (),
        'a list of folders ("./reports"), pins ("reports==1.2") and commits ("git+https://…@<sha>")',
    ),
    "tasks": Key(_texts(re.compile(r"[^\n]+")), ("tasks",), "a list of folders, from that of deploy.toml"),
    "workspaces": Key(_yes_or_no, False, "true or false"),
    "sentry": Key(_table(Sentry, SENTRY_KEYS), None, "a table"),
    "index": Key(_table(Index, INDEX_KEYS), None, "a table"),
}
OPTIONAL: Final = ("sentry", "index")  # None is what they are without it
COMMON_ONLY: Final = ("tasks",)  # its commands are there for each stage


def names(folder: Path) -> list[str]:
    return sorted(file.stem for file in (folder / STAGES).glob("*.toml"))


def tasks(folder: Path) -> tuple[str, ...]:
    """The folders of the team's part, which all stages have in common."""
    found: tuple[str, ...] = _read_file(folder / COMMON).get("tasks", KEYS["tasks"].default)
    return found


def read(folder: Path, name: str) -> Stage:
    """The stage's own file wins; the variables of both are put together."""
    files = (folder / COMMON, folder / STAGES / f"{name}.toml")
    values: dict[str, Any] = {}
    for file in files:
        found = _read_file(file)
        both = {key: {**values.get(key, {}), **found.get(key, {})} for key in ("environment", "secrets")}
        values |= found | both
    for key in [key for key, rule in KEYS.items() if rule.default is None and key not in (*values, *OPTIONAL)]:
        raise UsageError(f"{files[1]}: {key} is missing; it is {KEYS[key].allowed}.")
    defaults = {key: rule.default for key, rule in KEYS.items()}
    return Stage(name=name, folder=folder, **(defaults | values))


def of_ref(stage: Stage, ref: str | None) -> Stage:
    """The same stage; if a ref is given, that is what is deployed."""
    if ref is None:
        return stage
    try:
        return replace(stage, ref=KEYS["ref"].read(ref))
    except ValueError:
        raise UsageError(f"--ref is {ref!r}; allowed is {KEYS['ref'].allowed}.") from None


def _read_file(file: Path) -> dict[str, Any]:
    try:
        given = tomllib.loads(file.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    return {key: _read_one(file, key, value) for key, value in given.items()}


def _read_one(file: Path, key: str, value: Any) -> Any:
    if key in COMMON_ONLY and file.name != COMMON:
        raise UsageError(f"{file}: {key} belongs into {COMMON}: it is the same for all stages.")
    if key not in KEYS:
        raise UsageError(f"{file}: there is no key {key}; there are {', '.join(KEYS)}.")
    try:
        return KEYS[key].read(value)
    except Wrong as error:
        raise UsageError(f"{file}: [{key}]: {error}.") from None
    except (ValueError, TypeError):
        raise UsageError(f"{file}: {key} is {value!r}; allowed is {KEYS[key].allowed}.") from None
