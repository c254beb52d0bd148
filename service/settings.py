"""The environment, read once into one frozen object. A wrong value stops the program with the variable's name."""

import ipaddress
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit

from service.errors import SettingsError

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
WEIGHTED: Final = re.compile(NAME.pattern + r"(:[0-9]{1,4})?")
HEAVIEST: Final = 1000
QUEUES: Final = (
    f"names of queues, with commas between, each once; each with a weight from 1 to {HEAVIEST}, as in bulk:1, or none"
)
MODULE: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
ENVIRONMENT: Final = re.compile(r"[^\s/\\]{1,64}")
RELEASE: Final = re.compile(r"[^\s/\\]{0,200}")
REDIS_URLS: Final = (
    "redis://HOST:PORT/DB, rediss://HOST:PORT/DB, unix:///PATH?db=DB, or redis+cluster://HOST:PORT,HOST:PORT, "
    "with no other options than docs/settings.md lists"
)
TEN_YEARS: Final = 10 * 366 * 86400
SOCKET_PATH_LIMIT: Final = 100
HOST: Final = re.compile(r"[A-Za-z0-9._:-]{0,253}")
HOST_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
GROUP: Final = re.compile(r"[A-Za-z0-9_.-]{0,32}")
METRIC: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
SECRETIVE: Final = (
    "REDIS_URL",
    "GRAPHITE_URL",
    "SENTRY_DSN",
    "SANDBOX_WORKSPACE_GIT",
    "SANDBOX_WORKSPACE_INDEX",
    "SANDBOX_WORKSPACE_DATABASE",
    "SANDBOX_WORKSPACE_STATUS_URL",
)  # a URL may hold a password
LEVELS: Final = ("debug", "info", "warning", "error")
DEMO_TASKS: Final = "service.builtin.demo"
UNIX: Final = "unix:"
AUTO, PLAIN, ISOLATED = "auto", "plain", "isolated"  # workspaces
WORKSPACES: Final = "workspaces"  # their queue, and their folder
RELEASES: Final = "releases"  # the same of theirs
GIT: Final = re.compile(r"(/|[A-Za-z0-9+.-]+://|[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:)\S+")
DOMAIN: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,200}[A-Za-z0-9])?(:[0-9]{1,5})?")
PROGRAM: Final = re.compile(r"[A-Za-z0-9/][A-Za-z0-9._/-]{0,200}")
STAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
BRANCH: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,200}")
TOKEN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
INDEX: Final = re.compile(r"|https?://\S+|/\S+")


class ServedQueues(tuple[str, ...]):
    """Their names in order. Without weights, the order is strict."""

    weights: Mapping[str, int]

    def __new__(cls, weights: Mapping[str, int | None]) -> "ServedQueues":
        names = super().__new__(cls, weights)
        names.weights = {name: weight for name, weight in weights.items() if weight is not None}
        return names

    def __str__(self) -> str:
        return ",".join(f"{name}:{self.weights[name]}" if self.weights else name for name in self)


@dataclass(frozen=True, kw_only=True)
class Settings:
    home: Path
    logs: Path
    control_group: str
    release: Path | None
    bind: str
    port: int
    web_workers: int
    web_grace_seconds: float
    reload_seconds: float
    runners: int
    threads: int
    builders: int
    builder_threads: int
    builder_queues: ServedQueues
    tasks: tuple[str, ...]
    queues: ServedQueues
    partitions: int
    name: str
    retention_seconds: float
    stuck_seconds: float
    lease_seconds: float
    grace_seconds: float
    waiting_clients: int
    streams: int
    tokens: Path | None
    hosts: tuple[str, ...]
    proxies: tuple[str, ...]
    redis_url: str
    fsync: str
    log_format: str
    log_level: str
    statsd_host: str
    statsd_port: int
    statsd_prefix: str
    graphite_url: str
    sentry_dsn: str
    sentry_client: str
    sentry_environment: str
    sentry_release: str
    sentry_url: str
    public_url: str
    workspace_git: str
    workspace_key: Path | None
    workspaces: Path
    workspace_domain: str
    workspace_isolation: str
    workspace_steward: Path
    workspace_database: str
    workspace_media: Path | None
    workspace_pythons: tuple[str, ...]
    workspace_index: str
    workspace_max: int
    workspace_building: int
    workspace_idle_days: float
    workspace_expire_days: float
    workspace_disk_mb: int
    workspace_memory_mb: int
    workspace_hook: Path | None
    workspace_status_url: str
    workspace_status_token: Path | None
    promote_clone: Path | None
    promote_branch: str
    promote_test: str
    promote_stages: tuple[str, ...]
    promote_people: tuple[str, ...]

    @property
    def on_loopback(self) -> bool:
        return is_loopback(self.bind)

    @property
    def socket(self) -> str:
        """The path of the unix socket to listen on, or an empty text."""
        return self.bind.removeprefix(UNIX) if self.bind.startswith(UNIX) else ""

    @property
    def all_queues(self) -> tuple[str, ...]:
        """Those that any runner of this installation serves."""
        return tuple(dict.fromkeys((*self.queues, *self.builder_queues)))

    @property
    def embedded_redis(self) -> bool:
        return not self.redis_url

    @property
    def observed(self) -> bool:
        """Does anybody want to be told what the supervisor does?"""
        return bool(self.statsd_host or self.graphite_url or self.sentry_dsn)

    @property
    def sockets(self) -> Path:
        """The folder of the unix sockets; only its owner and the control group may enter."""
        return self.home / "run"

    @property
    def releases(self) -> Path:
        """The folder of the ledger, and of the checkout in which a release is tested."""
        return self.home / RELEASES

    @property
    def store_url(self) -> str:
        return self.redis_url or f"unix://{quote(str(self.sockets / 'redis.sock'))}"

    @property
    def url(self) -> str:
        if self.socket:
            return self.bind
        host = f"[{self.bind}]" if ":" in self.bind else self.bind
        return f"http://{host}:{self.port}"

    @property
    def page_url(self) -> str:
        """Where a browser on this host finds the page; an empty text behind a unix socket."""
        here = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.bind)
        return "" if self.socket else f"http://{here}:{self.port}" if here else self.url


@dataclass(frozen=True)
class Variable:
    """One variable: the field that it sets, how its text is read, its default, and what is allowed."""

    name: str
    field: str
    read: Callable[[str], Any]
    default: str
    allowed: str


def is_loopback(bind: str) -> bool:
    """Can it be reached from this host only? So it is with a unix socket, too."""
    if bind.startswith(UNIX):
        return True
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return bind == "localhost"


def _path(text: str) -> Path:
    if not text:
        raise ValueError
    return Path(text).expanduser().absolute()


def _optional_path(text: str) -> Path | None:
    return _path(text) if text else None


def _address(text: str) -> str:
    if text.startswith(UNIX):
        path = Path(text.removeprefix(UNIX))
        if not path.is_absolute() or len(bytes(path)) > SOCKET_PATH_LIMIT:
            raise ValueError
    elif text != "localhost":
        ipaddress.ip_address(text)
    return text


def _whole(lowest: int, highest: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text)
        if not lowest <= number <= highest:
            raise ValueError
        return number

    return read


def _seconds(lowest: float, highest: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        number = float(text)
        if not lowest <= number <= highest:
            raise ValueError
        return number

    return read


def _names(pattern: re.Pattern[str]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        names = tuple(filter(None, re.split(r"[\s,]+", text)))
        if len(set(names)) < len(names) or not all(map(pattern.fullmatch, names)):
            raise ValueError
        return names

    return read


def _some_names(pattern: re.Pattern[str]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        names = _names(pattern)(text)
        if not names:
            raise ValueError
        return names

    return read


def _queues(text: str) -> ServedQueues:
    queues = _queues_or_none(text)
    if not queues:
        raise ValueError
    return queues


def _queues_or_none(text: str) -> ServedQueues:
    weights: dict[str, int | None] = {}
    for part in _names(WEIGHTED)(text):
        name, colon, weight = part.partition(":")
        if name in weights:
            raise ValueError
        weights[name] = _whole(1, HEAVIEST)(weight) if colon else None
    if len({weight is None for weight in weights.values()}) > 1:
        raise ValueError  # some with a weight and some without
    return ServedQueues(weights)


def _networks(text: str) -> tuple[str, ...]:
    found = _names(re.compile(r".+"))(text)
    for network in found:
        ipaddress.ip_network(network)
    return found


def _sentry_dsn(text: str) -> str:
    if text:
        parts = urlsplit(text)
        project = parts.path.rpartition("/")[2]
        if parts.scheme not in ("http", "https") or not (parts.hostname and parts.username and project.isdigit()):
            raise ValueError
        _ = parts.port  # raises if it is no port
    return text


def _text_like(pattern: re.Pattern[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError
        return text

    return read


def _optional(pattern: re.Pattern[str]) -> Callable[[str], str]:
    return lambda text: _text_like(pattern)(text) if text else text


def _http_url(text: str) -> str:
    if text:
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:  # no port: it raises
            raise ValueError
    return text.rstrip("/")


def _event_url(text: str) -> str:
    """Where to look at an error: somewhere in it stands for the error's id."""
    if text and "{event_id}" not in text:
        raise ValueError
    return _http_url(text)


def _status_url(text: str) -> str:
    """Where a forge takes how a commit stands: somewhere in it stands for the commit. A token has a file of its own."""
    if text and ("{sha}" not in text or "@" in urlsplit(text).netloc):
        raise ValueError
    return _http_url(text)


def _two_stages(text: str) -> tuple[str, ...]:
    names = _names(STAGE)(text)
    if len(names) != 2:
        raise ValueError
    return names


def _command(text: str) -> str:
    if not shlex.split(text):
        raise ValueError
    return text


def _choice(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError
        return text

    return read


def _database(text: str) -> str:
    if text not in ("copy", "empty", "shared"):
        parts = urlsplit(text)
        is_whole = parts.hostname and parts.username and re.fullmatch(r"/[^/]+", parts.path)
        if parts.scheme not in ("postgres", "postgresql") or not is_whole or parts.query or parts.port == 0:
            raise ValueError
    return text


_TEXT: Final = _text_like(re.compile(r".+"))
_LOGIN_AND_DATABASE: Final = {"username": _TEXT, "password": _TEXT, "db": _text_like(re.compile(r"[0-9]{1,9}"))}
_TLS: Final = {
    "ssl_cert_reqs": _choice("none", "optional", "required"),
    "ssl_check_hostname": _text_like(re.compile(r"(?i:true|false)")),
    **dict.fromkeys(("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password"), _TEXT),
}
_REDIS_PATHS_AND_OPTIONS: Final[dict[str, tuple[str, dict[str, Callable[[str], str]]]]] = {
    "redis": (r"/?|/[0-9]{1,9}", _LOGIN_AND_DATABASE),
    "rediss": (r"/?|/[0-9]{1,9}", _LOGIN_AND_DATABASE | _TLS),
    "unix": (r"/.+", _LOGIN_AND_DATABASE),
    "redis+cluster": (r"/?|/0", {}),
}


def _redis_url(text: str) -> str:
    """Strict: redis-py finds most faults only when it connects, and takes options that would break our exchange."""
    if not text:
        return text
    scheme, _, rest = text.partition("://")
    if scheme not in _REDIS_PATHS_AND_OPTIONS:
        raise ValueError
    path, options = _REDIS_PATHS_AND_OPTIONS[scheme]
    parts = urlsplit(f"//{rest}")
    if parts.fragment or not re.fullmatch(path, parts.path):
        raise ValueError
    _check_redis_hosts(scheme, parts.netloc.rpartition("@")[2])
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in given.items():
        if name not in options:
            raise ValueError
        options[name](value)
    if "ssl_keyfile" in given and "ssl_certfile" not in given:
        raise ValueError
    return text


def _check_redis_hosts(scheme: str, text: str) -> None:
    if scheme == "unix":
        if text:
            raise ValueError  # a path with a slash too few
        return
    for host in text.split(",") if scheme == "redis+cluster" else [text]:
        parts = urlsplit(f"//{host}")
        if not parts.hostname or "," in host or parts.port == 0:
            raise ValueError


VARIABLES: Final = (
    Variable("SANDBOX_HOME", "home", _path, "./var", "a folder that this user may write"),
    Variable("SANDBOX_LOGS", "logs", _optional_path, "", "a folder that this user may write"),
    Variable(
        "SANDBOX_CONTROL_GROUP", "control_group", _text_like(GROUP), "", "the name of a group that this user is in"
    ),
    Variable("SANDBOX_RELEASE", "release", _optional_path, "", "a folder with the code, or a link to one"),
    Variable(
        "SANDBOX_BIND",
        "bind",
        _address,
        "127.0.0.1",
        "an IP address, localhost, or unix:/path; the port stands in SANDBOX_PORT",
    ),
    Variable("SANDBOX_PORT", "port", _whole(1, 65535), "8000", "a port from 1 to 65535"),
    Variable("SANDBOX_WEB_WORKERS", "web_workers", _whole(1, 64), "2", "a number from 1 to 64"),
    Variable("SANDBOX_WEB_GRACE", "web_grace_seconds", _seconds(1, 3600), "30", "seconds from 1 to 3600"),
    Variable("SANDBOX_RELOAD", "reload_seconds", _seconds(1, 3600), "30", "seconds from 1 to 3600"),
    Variable("SANDBOX_RUNNERS", "runners", _whole(1, 256), "2", "a number from 1 to 256"),
    Variable("SANDBOX_THREADS", "threads", _whole(1, 64), "1", "a number from 1 to 64"),
    Variable("SANDBOX_TASKS", "tasks", _names(MODULE), DEMO_TASKS, "names of Python modules, with commas between"),
    Variable("SANDBOX_QUEUES", "queues", _queues, "default", QUEUES),
    Variable("SANDBOX_BUILDERS", "builders", _whole(0, 256), "0", "a number from 0 to 256"),
    Variable("SANDBOX_BUILDER_THREADS", "builder_threads", _whole(1, 64), "1", "a number from 1 to 64"),
    Variable("SANDBOX_BUILDER_QUEUES", "builder_queues", _queues_or_none, "", QUEUES),
    Variable("SANDBOX_PARTITIONS", "partitions", _whole(1, 64), "1", "a number from 1 to 64"),
    Variable("SANDBOX_NAME", "name", _text_like(NAME), "sandbox", "a name of up to 64 letters, digits, ., _ and -"),
    Variable(
        "SANDBOX_RETENTION", "retention_seconds", _seconds(1, TEN_YEARS), "604800", f"seconds from 1 to {TEN_YEARS}"
    ),
    Variable("SANDBOX_STUCK", "stuck_seconds", _seconds(1, 604_800), "600", "seconds from 1 to 604800"),
    Variable("SANDBOX_LEASE", "lease_seconds", _seconds(2, 3600), "15", "seconds from 2 to 3600"),
    Variable("SANDBOX_GRACE", "grace_seconds", _seconds(0, 3600), "10", "seconds from 0 to 3600"),
    Variable("SANDBOX_WAITING_CLIENTS", "waiting_clients", _whole(0, 100_000), "500", "a number from 0 to 100000"),
    Variable("SANDBOX_STREAMS", "streams", _whole(0, 100_000), "500", "a number from 0 to 100000"),
    Variable("SANDBOX_TOKENS", "tokens", _optional_path, "", "the file that `sandbox token add` writes"),
    Variable("SANDBOX_HOSTS", "hosts", _names(HOST_NAME), "", "names of hosts, with commas between, each once"),
    Variable("SANDBOX_PROXIES", "proxies", _networks, "", "IP addresses and networks, with commas between, each once"),
    Variable("SANDBOX_FSYNC", "fsync", _choice("everysec", "always"), "everysec", "everysec or always"),
    Variable("REDIS_URL", "redis_url", _redis_url, "", REDIS_URLS),
    Variable("SANDBOX_LOG_FORMAT", "log_format", _choice("json", "text"), "json", "json or text"),
    Variable("SANDBOX_LOG_LEVEL", "log_level", _choice(*LEVELS), "info", "debug, info, warning or error"),
    Variable("STATSD_HOST", "statsd_host", _text_like(HOST), "", "the name or IP address of a host"),
    Variable("STATSD_PORT", "statsd_port", _whole(1, 65535), "8125", "a port from 1 to 65535"),
    Variable("STATSD_PREFIX", "statsd_prefix", _text_like(METRIC), "sandbox", "letters, digits, _ and -, dots between"),
    Variable("GRAPHITE_URL", "graphite_url", _http_url, "", "a URL that begins with http:// or https://"),
    Variable(
        "SENTRY_DSN", "sentry_dsn", _sentry_dsn, "", "what Sentry shows as the project's DSN: https://KEY@HOST/NUMBER"
    ),
    Variable("SENTRY_CLIENT", "sentry_client", _choice("raven", "sentry-sdk"), "raven", "raven or sentry-sdk"),
    Variable(
        "SENTRY_ENVIRONMENT",
        "sentry_environment",
        _text_like(ENVIRONMENT),
        "production",
        "a name of up to 64 characters without blanks and slashes",
    ),
    Variable(
        "SENTRY_RELEASE",
        "sentry_release",
        _text_like(RELEASE),
        "",
        "a name of up to 200 characters without blanks and slashes",
    ),
    Variable(
        "SENTRY_URL", "sentry_url", _event_url, "", "a URL with {event_id} in it, that begins with http:// or https://"
    ),
    Variable("SANDBOX_PUBLIC_URL", "public_url", _http_url, "", "a URL that begins with http:// or https://"),
    Variable(
        "SANDBOX_WORKSPACE_GIT", "workspace_git", _optional(GIT), "", "the address of a git repository: a URL or a path"
    ),
    Variable("SANDBOX_WORKSPACE_KEY", "workspace_key", _optional_path, "", "the file of a deploy key"),
    Variable("SANDBOX_WORKSPACES", "workspaces", _optional_path, "", "a folder that this user may write"),
    Variable(
        "SANDBOX_WORKSPACE_DOMAIN",
        "workspace_domain",
        _text_like(DOMAIN),
        "localhost:8090",
        "the name of a domain, with a port or without",
    ),
    Variable(
        "SANDBOX_WORKSPACE_ISOLATION",
        "workspace_isolation",
        _choice(AUTO, PLAIN, ISOLATED),
        AUTO,
        f"{AUTO}, {PLAIN} or {ISOLATED}",
    ),
    Variable(
        "SANDBOX_WORKSPACE_STEWARD",
        "workspace_steward",
        _path,
        "/run/sandbox-steward/socket",
        "the socket of the steward",
    ),
    Variable(
        "SANDBOX_WORKSPACE_DATABASE",
        "workspace_database",
        _database,
        "copy",
        "copy, empty, shared, or postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
    ),
    Variable("SANDBOX_WORKSPACE_MEDIA", "workspace_media", _optional_path, "", "a folder"),
    Variable(
        "SANDBOX_WORKSPACE_PYTHONS",
        "workspace_pythons",
        _some_names(PROGRAM),
        "python3",
        "names of Python interpreters",
    ),
    Variable(
        "SANDBOX_WORKSPACE_INDEX",
        "workspace_index",
        _text_like(INDEX),
        "",
        "the URL of an index, or a folder of wheels",
    ),
    Variable("SANDBOX_WORKSPACE_MAX", "workspace_max", _whole(1, 10_000), "50", "a number from 1 to 10000"),
    Variable("SANDBOX_WORKSPACE_BUILDING", "workspace_building", _whole(1, 1000), "20", "a number from 1 to 1000"),
    Variable("SANDBOX_WORKSPACE_IDLE_DAYS", "workspace_idle_days", _seconds(0.01, 3660), "7", "days from 0.01 to 3660"),
    Variable("SANDBOX_WORKSPACE_EXPIRE_DAYS", "workspace_expire_days", _seconds(0, 3660), "0", "days from 0 to 3660"),
    Variable(
        "SANDBOX_WORKSPACE_DISK_MB", "workspace_disk_mb", _whole(64, 1_000_000), "4096", "a number from 64 to 1000000"
    ),
    Variable(
        "SANDBOX_WORKSPACE_MEMORY_MB",
        "workspace_memory_mb",
        _whole(256, 1_000_000),
        "4096",
        "a number from 256 to 1000000",
    ),
    Variable("SANDBOX_WORKSPACE_HOOK", "workspace_hook", _optional_path, "", "the file of a secret"),
    Variable(
        "SANDBOX_WORKSPACE_STATUS_URL",
        "workspace_status_url",
        _status_url,
        "",
        "a URL with {sha} in it and no user, that begins with http:// or https://",
    ),
    Variable("SANDBOX_WORKSPACE_STATUS_TOKEN", "workspace_status_token", _optional_path, "", "the file of a token"),
    Variable("SANDBOX_PROMOTE_CLONE", "promote_clone", _optional_path, "", "a folder with a clone of the project"),
    Variable("SANDBOX_PROMOTE_BRANCH", "promote_branch", _text_like(BRANCH), "main", "the name of a branch"),
    Variable("SANDBOX_PROMOTE_TEST", "promote_test", _command, "make test", "a command"),
    Variable(
        "SANDBOX_PROMOTE_STAGES",
        "promote_stages",
        _two_stages,
        "staging,production",
        "the names of two stages, with a comma between",
    ),
    Variable(
        "SANDBOX_PROMOTE_PEOPLE", "promote_people", _names(TOKEN_NAME), "", "names of tokens, with commas between"
    ),
)


def read(environment: Mapping[str, str]) -> Settings:
    values = {variable.field: _read_one(variable, environment) for variable in VARIABLES}
    if "SANDBOX_TASKS" not in environment and not is_loopback(values["bind"]):
        values["tasks"] = ()  # the demo types are not for strangers
    values["logs"] = values["logs"] or values["home"] / "log"
    values["workspaces"] = values["workspaces"] or values["home"] / WORKSPACES
    if values["workspace_git"]:
        _serve(values, WORKSPACES)
    if values["promote_clone"]:
        _serve(values, RELEASES)
    settings = Settings(**values)
    _check_socket_paths(settings)
    _check_builders(settings)
    _check_workspaces(settings)
    return settings


def _serve(values: dict[str, Any], queue: str) -> None:
    """Somebody has to: a builder, where nothing else is said."""
    queues: ServedQueues = values["builder_queues"]
    if queue not in (*values["queues"], *queues):
        weights = {name: queues.weights.get(name) for name in queues}
        values["builder_queues"] = ServedQueues({**weights, queue: 1 if queues.weights else None})
        values["builders"] = max(1, values["builders"])


def _check_workspaces(settings: Settings) -> None:
    """What runs a stranger's code as the service's own user is for one person's own machine."""
    if settings.workspace_git and settings.workspace_isolation == PLAIN and not settings.on_loopback:
        raise SettingsError(
            f"SANDBOX_WORKSPACE_GIT is set, and SANDBOX_BIND is {settings.bind!r}: workspaces without isolation are "
            "for one's own machine. Listen on loopback; or install the steward (docs/steward.md), and take "
            "SANDBOX_WORKSPACE_ISOLATION away."
        )


def _read_one(variable: Variable, environment: Mapping[str, str]) -> Any:
    text = environment.get(variable.name, variable.default).strip()
    try:
        return variable.read(text)
    except ValueError:
        shown = "a URL that cannot be used" if variable.name in SECRETIVE else repr(text)
        raise SettingsError(f"{variable.name} is {shown}; allowed is {variable.allowed}.") from None


def _check_socket_paths(settings: Settings) -> None:
    longest = len(bytes(settings.sockets / "control.sock"))
    if longest > SOCKET_PATH_LIMIT:
        raise SettingsError(
            f"SANDBOX_HOME is {str(settings.home)!r}: too long by {longest - SOCKET_PATH_LIMIT} characters for "
            f"the path of a unix socket. Choose a shorter folder."
        )


def _check_builders(settings: Settings) -> None:
    if settings.builders and not settings.builder_queues:
        raise SettingsError(
            f"SANDBOX_BUILDERS is {settings.builders}, and SANDBOX_BUILDER_QUEUES names no queue that they could "
            "serve. Name one, or take the builders away."
        )


def texts(settings: Settings) -> dict[str, str]:
    """The variables that would give these settings."""
    return {variable.name: _text(getattr(settings, variable.field)) for variable in VARIABLES}


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, ServedQueues):
        return str(value)
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, float):
        return f"{value:g}" if value < 1e6 else str(int(value))
    return str(value)


assert {variable.field for variable in VARIABLES} == {field.name for field in fields(Settings)}
