"""Each variable: what it is by default, what it takes, and what it says when it cannot be used."""

import re
from pathlib import Path
from typing import Any

import pytest

from service import settings
from service.errors import SettingsError
from service.settings import VARIABLES, Settings, read, texts

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
NAMES = [variable.name for variable in VARIABLES]


class Case:
    """For one variable: its field's default, texts with what they mean, and texts that are refused."""

    def __init__(self, default: Any, good: dict[str, Any], bad: list[str], allowed: str) -> None:
        self.default, self.good, self.bad, self.allowed = default, good, bad, allowed


GOOD_REDIS_URLS = [
    "redis://h",
    "redis://h:6379/0",
    "redis://[2001:db8::1]:6379/",
    "redis://user:p%40ss@h/15",
    "redis://h?db=2&username=u&password=p",
    "rediss://h",
    "rediss://h:6380/1?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=optional&ssl_check_hostname=False",
    "rediss://h?ssl_certfile=/c.pem&ssl_keyfile=/k.pem&ssl_password=p&ssl_ca_path=/etc/ca",
    "unix:///run/r.sock",
    "unix://:p@/run/r.sock?db=3",
    "redis+cluster://a:1,b:2",
    "redis+cluster://u:p,q@a,[2001:db8::1]:2/0",
]
BAD_REDIS_URLS = [
    *("localhost:6379", "http://h", "redis", "REDIS://h", "redis:/h", "redis://", "redis://:p@", "redis://:p#q@h"),
    *("redis://h:abc", "redis://h:99999", "redis://h:0", "redis://a:1,b:2"),
    *("redis://h/abc", "redis://h/1/2", "redis://h/-1", "redis://h?db=x", "redis://h?db=", "unix:///r?db=x"),
    *("redis://h?timeout=20", "redis://h?socket_timeout=x", "redis://h?protocol=3", "redis://h?decode_responses=true"),
    *("redis://h?max_connections=5", "redis://h?foo", "redis://h/0#0", "redis://h?ssl_cert_reqs=none"),
    *(
        "rediss://h?ssl_cert_reqs=bogus",
        "rediss://h?ssl_check_hostname=perhaps",
        "rediss://h?ssl_foo=1",
        "rediss://h?ssl_keyfile=/k.pem",
    ),
    *("unix://", "unix:/r.sock", "unix://run/r.sock", "unix:///r?ssl_cert_reqs=none"),
    *("redis+cluster://", "redis+cluster://a:1,b:x", "redis+cluster://a:1,", "redis+cluster://a:1/2"),
    *("redis+cluster://a:1?x=1", "redis+cluster://a:1?db=0", "redis+cluster:///r.sock"),
]

CASES = {
    "SANDBOX_HOME": Case(
        Path.cwd() / "var",
        {"/srv/sandbox": Path("/srv/sandbox"), "x": Path.cwd() / "x", "~/x": Path.home() / "x"},
        ["", " "],
        "a folder that this user may write",
    ),
    "SANDBOX_LOGS": Case(
        Path.cwd() / "var" / "log",
        {"/var/log/sandbox": Path("/var/log/sandbox"), "x": Path.cwd() / "x"},
        [],
        "a folder that this user may write",
    ),
    "SANDBOX_CONTROL_GROUP": Case(
        "",
        {"": "", "sandbox-control": "sandbox-control"},
        ["a b", "a/b", "x" * 33],
        "the name of a group that this user is in",
    ),
    "SANDBOX_RELEASE": Case(
        None,
        {"": None, "/srv/current": Path("/srv/current"), "x": Path.cwd() / "x"},
        [],
        "a folder with the code, or a link to one",
    ),
    "SANDBOX_BIND": Case(
        "127.0.0.1",
        {
            "::1": "::1",
            "0.0.0.0": "0.0.0.0",
            "localhost": "localhost",
            " 10.0.0.1 ": "10.0.0.1",
            "unix:/run/x": "unix:/run/x",
        },
        ["", "example.com", "127.0.0.1:80", "256.0.0.1", "unix:", "unix:x", "unix:/" + "x" * 100],
        "an IP address, localhost, or unix:/path; the port stands in SANDBOX_PORT",
    ),
    "SANDBOX_PORT": Case(8000, {"1": 1, "65535": 65535}, ["", "0", "65536", "http", "80.0"], "a port from 1 to 65535"),
    "SANDBOX_WEB_WORKERS": Case(2, {"1": 1, "64": 64}, ["", "0", "65", "two"], "a number from 1 to 64"),
    "SANDBOX_WEB_GRACE": Case(30.0, {"1": 1.0, "3600": 3600.0}, ["0", "3601", "nan"], "seconds from 1 to 3600"),
    "SANDBOX_RELOAD": Case(30.0, {"1": 1.0, "2.5": 2.5}, ["0", "3601", "nan"], "seconds from 1 to 3600"),
    "SANDBOX_RUNNERS": Case(2, {"1": 1, "256": 256}, ["0", "257", "two"], "a number from 1 to 256"),
    "SANDBOX_THREADS": Case(1, {"1": 1, "64": 64}, ["0", "65", "1.5"], "a number from 1 to 64"),
    "SANDBOX_TASKS": Case(
        ("service.builtin.demo",),
        {"": (), "a.b,c": ("a.b", "c"), " a , b\tc\n": ("a", "b", "c")},
        ["a,a", "a-b", "a..b", "a;b", "/a.py"],
        "names of Python modules, with commas between",
    ),
    "SANDBOX_QUEUES": Case(
        ("default",),
        {"high,default": ("high", "default"), "a b": ("a", "b"), "a:5,b:1000": ("a", "b")},
        ["", ",", "a,a", "a:b", "x" * 65, "a:1,b", "a:0", "a:1001", "a:1,a:2"],
        "names of queues, with commas between, each once; each with a weight from 1 to 1000, as in bulk:1, or none",
    ),
    "SANDBOX_BUILDERS": Case(0, {"0": 0}, ["-1", "257"], "a number from 0 to 256"),
    "SANDBOX_BUILDER_THREADS": Case(1, {"1": 1, "64": 64}, ["0", "65"], "a number from 1 to 64"),
    "SANDBOX_BUILDER_QUEUES": Case(
        (),
        {"": (), "builds": ("builds",), "a:2,b:1": ("a", "b")},
        ["a,a", "a:1,b"],
        "names of queues, with commas between, each once; each with a weight from 1 to 1000, as in bulk:1, or none",
    ),
    "SANDBOX_PARTITIONS": Case(1, {"4": 4}, ["0", "65"], "a number from 1 to 64"),
    "SANDBOX_NAME": Case(
        "sandbox", {"billing-2": "billing-2"}, ["", "a b", "x" * 65], "a name of up to 64 letters, digits, ., _ and -"
    ),
    "SANDBOX_RETENTION": Case(
        604800.0, {"1": 1.0, "0.5e2": 50.0}, ["", "0", "1e12", "nan", "7d"], "seconds from 1 to 316224000"
    ),
    "SANDBOX_STUCK": Case(600.0, {"1": 1.0, "604800": 604_800.0}, ["0", "604801", "nan"], "seconds from 1 to 604800"),
    "SANDBOX_LEASE": Case(15.0, {"2": 2.0, "3600": 3600.0}, ["1", "3601", "nan", "inf"], "seconds from 2 to 3600"),
    "SANDBOX_GRACE": Case(10.0, {"0": 0.0, "3600": 3600.0}, ["-1", "3601", "nan"], "seconds from 0 to 3600"),
    "SANDBOX_WAITING_CLIENTS": Case(500, {"0": 0, "100000": 100000}, ["-1", "100001"], "a number from 0 to 100000"),
    "SANDBOX_STREAMS": Case(500, {"0": 0, "100000": 100000}, ["-1", "100001"], "a number from 0 to 100000"),
    "SANDBOX_TOKENS": Case(None, {"": None, "/etc/t": Path("/etc/t")}, [], "the file that `sandbox token add` writes"),
    "SANDBOX_HOSTS": Case(
        (),
        {"": (), "tasks.example, my-host": ("tasks.example", "my-host")},
        ["a.example,a.example", "a:80", "*.example", "http://a", "x" * 254],
        "names of hosts, with commas between, each once",
    ),
    "SANDBOX_PROXIES": Case(
        (),
        {"": (), "127.0.0.1, 10.0.0.0/8 ::1": ("127.0.0.1", "10.0.0.0/8", "::1")},
        ["localhost", "10.0.0.1/8", "10.0.0.0/33", "*", "::1,::1"],
        "IP addresses and networks, with commas between, each once",
    ),
    "SANDBOX_FSYNC": Case("everysec", {"always": "always"}, ["", "no", "ALWAYS"], "everysec or always"),
    "REDIS_URL": Case("", {url: url for url in ("", *GOOD_REDIS_URLS)}, BAD_REDIS_URLS, settings.REDIS_URLS),
    "SANDBOX_LOG_FORMAT": Case("json", {"text": "text"}, ["", "JSON", "xml"], "json or text"),
    "SANDBOX_LOG_LEVEL": Case(
        "info",
        {level: level for level in ("debug", "warning", "error")},
        ["", "INFO", "trace"],
        "debug, info, warning or error",
    ),
    "STATSD_HOST": Case(
        "",
        {host: host for host in ("", "127.0.0.1", "::1", "statsd", "statsd.example.com")},
        ["http://statsd", "a b", "x" * 254],
        "the name or IP address of a host",
    ),
    "STATSD_PORT": Case(8125, {"9125": 9125}, ["", "0", "65536", "udp"], "a port from 1 to 65535"),
    "STATSD_PREFIX": Case(
        "sandbox",
        {"a.b-1": "a.b-1"},
        ["", ".", "a.", ".a", "a..b", "a:b", "a b"],
        "letters, digits, _ and -, dots between",
    ),
    "GRAPHITE_URL": Case(
        "",
        {"": "", "http://g:8080/": "http://g:8080", "https://g/graphite": "https://g/graphite"},
        ["g:8080", "http://", "udp://g", "http://g:0", "http://g:99999", "http://g:abc"],
        "a URL that begins with http:// or https://",
    ),
    "SENTRY_DSN": Case(
        "",
        {url: url for url in ("", "https://key@sentry.example/1", "http://key:secret@10.0.0.1:9000/path/7")},
        ["https://sentry.example/1", "https://key@sentry.example", "ftp://key@h/1", "https://key@h:x/1", "key"],
        "what Sentry shows as the project's DSN: https://KEY@HOST/NUMBER",
    ),
    "SENTRY_CLIENT": Case("raven", {"sentry-sdk": "sentry-sdk"}, ["", "sdk"], "raven or sentry-sdk"),
    "SENTRY_ENVIRONMENT": Case(
        "production",
        {"staging": "staging", "x" * 64: "x" * 64},
        ["", "a b", "a/b", "x" * 65],
        "a name of up to 64 characters without blanks and slashes",
    ),
    "SENTRY_RELEASE": Case(
        "",
        {"sandbox@1.2": "sandbox@1.2", "": ""},
        ["a b", "a/b", "x" * 201],
        "a name of up to 200 characters without blanks and slashes",
    ),
    "SENTRY_URL": Case(
        "",
        {"": "", "https://s.example/me/?query={event_id}": "https://s.example/me/?query={event_id}"},
        ["https://s.example", "javascript:{event_id}", "s.example/{event_id}"],
        "a URL with {event_id} in it, that begins with http:// or https://",
    ),
    "SANDBOX_PUBLIC_URL": Case(
        "",
        {"": "", "https://sandbox.example.org/": "https://sandbox.example.org"},
        ["sandbox.example.org", "ftp://h", "https://h:abc"],
        "a URL that begins with http:// or https://",
    ),
    "SANDBOX_WORKSPACE_GIT": Case(
        "",
        {
            "": "",
            "/srv/p.git": "/srv/p.git",
            "git@host:team/p.git": "git@host:team/p.git",
            "https://h/p": "https://h/p",
        },
        ["--upload-pack=x", "p.git", "a b"],
        "the address of a git repository: a URL or a path",
    ),
    "SANDBOX_WORKSPACE_KEY": Case(None, {"": None, "/etc/key": Path("/etc/key")}, [], "the file of a deploy key"),
    "SANDBOX_WORKSPACES": Case(
        Path.cwd() / "var" / "workspaces",
        {"": Path.cwd() / "var" / "workspaces", "/srv/w": Path("/srv/w")},
        [],
        "a folder that this user may write",
    ),
    "SANDBOX_WORKSPACE_DOMAIN": Case(
        "localhost:8090",
        {"w.example.org": "w.example.org", "localhost:80": "localhost:80"},
        ["", "*.example.org", "a b", "-x", "x:y"],
        "the name of a domain, with a port or without",
    ),
    "SANDBOX_WORKSPACE_ISOLATION": Case(
        "auto", {"plain": "plain", "isolated": "isolated"}, ["none", "root"], "auto, plain or isolated"
    ),
    "SANDBOX_WORKSPACE_STEWARD": Case(
        Path("/run/sandbox-steward/socket"), {"/run/x": Path("/run/x")}, [], "the socket of the steward"
    ),
    "SANDBOX_WORKSPACE_DATABASE": Case(
        "copy",
        {"empty": "empty", "shared": "shared", "postgresql://u:p@h:5432/d": "postgresql://u:p@h:5432/d"},
        ["", "none", "postgresql://h/d", "postgresql://u:p@h", "postgresql://u:p@h/d?x=1", "mysql://u:p@h/d"],
        "copy, empty, shared, or postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
    ),
    "SANDBOX_WORKSPACE_MEDIA": Case(None, {"": None, "/srv/media": Path("/srv/media")}, [], "a folder"),
    "SANDBOX_WORKSPACE_PYTHONS": Case(
        ("python3",),
        {"python3.11,/opt/p/bin/python3": ("python3.11", "/opt/p/bin/python3")},
        ["", "-c", "a;b"],
        "names of Python interpreters",
    ),
    "SANDBOX_WORKSPACE_INDEX": Case(
        "",
        {"": "", "https://index/simple": "https://index/simple", "/srv/wheels": "/srv/wheels"},
        ["index", "--x"],
        "the URL of an index, or a folder of wheels",
    ),
    "SANDBOX_WORKSPACE_MAX": Case(50, {"1": 1}, ["0", "10001"], "a number from 1 to 10000"),
    "SANDBOX_WORKSPACE_BUILDING": Case(20, {"1": 1}, ["0", "1001"], "a number from 1 to 1000"),
    "SANDBOX_WORKSPACE_IDLE_DAYS": Case(7.0, {"0.5": 0.5}, ["0", "3661", "nan"], "days from 0.01 to 3660"),
    "SANDBOX_WORKSPACE_EXPIRE_DAYS": Case(0.0, {"30": 30.0}, ["-1", "3661", "nan"], "days from 0 to 3660"),
    "SANDBOX_WORKSPACE_DISK_MB": Case(4096, {"64": 64}, ["63", "x"], "a number from 64 to 1000000"),
    "SANDBOX_WORKSPACE_MEMORY_MB": Case(4096, {"256": 256}, ["255", "x"], "a number from 256 to 1000000"),
    "SANDBOX_WORKSPACE_HOOK": Case(None, {"/etc/hook": Path("/etc/hook")}, [], "the file of a secret"),
    "SANDBOX_WORKSPACE_STATUS_URL": Case(
        "",
        {"": "", "https://f/statuses/{sha}?ref={branch}": "https://f/statuses/{sha}?ref={branch}"},
        ["https://f/statuses", "f/{sha}", "ftp://f/{sha}", "https://u:p@f/{sha}", "https://u@f/{sha}"],
        "a URL with {sha} in it and no user, that begins with http:// or https://",
    ),
    "SANDBOX_WORKSPACE_STATUS_TOKEN": Case(None, {"/etc/token": Path("/etc/token")}, [], "the file of a token"),
    "SANDBOX_PROMOTE_CLONE": Case(None, {"/srv/shop": Path("/srv/shop")}, [], "a folder with a clone of the project"),
    "SANDBOX_PROMOTE_BRANCH": Case("main", {"release/1": "release/1"}, ["", "-x", "a b"], "the name of a branch"),
    "SANDBOX_PROMOTE_TEST": Case("make test", {"tox -q": "tox -q"}, ["", "a 'b"], "a command"),
    "SANDBOX_PROMOTE_STAGES": Case(
        ("staging", "production"),
        {"qa, live": ("qa", "live")},
        ["", "staging", "a,a", "a,b,c", "a,-b"],
        "the names of two stages, with a comma between",
    ),
    "SANDBOX_PROMOTE_PEOPLE": Case(
        (), {"jo,al@example.org": ("jo", "al@example.org")}, ["jo,jo", "a:b"], "names of tokens, with commas between"
    ),
}
FIELDS = {variable.name: variable.field for variable in VARIABLES}


def value(name: str, text: str) -> Any:
    return getattr(read({name: text}), FIELDS[name])


def test_every_variable_is_tried() -> None:
    assert list(CASES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_default_needs_no_environment(name: str) -> None:
    assert getattr(read({}), FIELDS[name]) == CASES[name].default


@pytest.mark.parametrize(("name", "text"), [(name, text) for name in NAMES for text in CASES[name].good])
def test_a_good_value_is_taken(name: str, text: str) -> None:
    assert value(name, text) == CASES[name].good[text]


@pytest.mark.parametrize(("name", "text"), [(name, text) for name in NAMES for text in CASES[name].bad])
def test_a_bad_value_is_named_with_what_is_allowed(name: str, text: str) -> None:
    shown = "a URL that cannot be used" if name in settings.SECRETIVE else repr(text.strip())
    with pytest.raises(SettingsError) as refused:
        read({name: text})
    assert str(refused.value) == f"{name} is {shown}; allowed is {CASES[name].allowed}."


@pytest.mark.parametrize("name", ["REDIS_URL", "SENTRY_DSN", "SANDBOX_WORKSPACE_DATABASE"])
def test_a_password_is_never_shown(name: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read({name: "http://:secret@host"})
    assert "secret" not in str(refused.value)


def test_a_home_too_long_for_a_socket_says_by_how_much() -> None:
    fits = "/" + "h" * (settings.SOCKET_PATH_LIMIT - len("//run/control.sock"))
    read({"SANDBOX_HOME": fits})
    with pytest.raises(SettingsError, match=r"^SANDBOX_HOME is '/h+x': too long by 1 characters? for the path"):
        read({"SANDBOX_HOME": fits + "x"})


def test_the_demo_types_are_for_loopback_unless_asked_for() -> None:
    assert read({"SANDBOX_BIND": "::1"}).tasks == ("service.builtin.demo",)
    assert read({"SANDBOX_BIND": "unix:/run/x"}).tasks == ("service.builtin.demo",)
    assert read({"SANDBOX_BIND": "10.0.0.1"}).tasks == ()
    assert read({"SANDBOX_BIND": "10.0.0.1", "SANDBOX_TASKS": "service.builtin.demo"}).tasks == (
        "service.builtin.demo",
    )


def test_the_embedded_redis_is_used_when_no_other_is_named() -> None:
    assert read({"SANDBOX_HOME": "/h"}).store_url == "unix:///h/run/redis.sock"
    assert read({"SANDBOX_HOME": "/h"}).embedded_redis
    assert read({"REDIS_URL": "redis://r"}).store_url == "redis://r"
    assert not read({"REDIS_URL": "redis://r"}).embedded_redis


@pytest.mark.parametrize(("name", "text"), [(name, text) for name in NAMES for text in ["", *CASES[name].good]])
def test_texts_give_the_same_settings_again(name: str, text: str) -> None:
    before = read({name: text} if text else {})
    assert read(texts(before)) == before
    assert list(texts(before)) == NAMES


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        read({}).port = 1  # type: ignore[misc]


def test_the_page_lists_exactly_these_variables_with_their_defaults() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*?) \|", PAGE.read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == NAMES
    for (name, default), variable in zip(rows, VARIABLES, strict=True):
        assert default == (f"`{variable.default}`" if variable.default else "none"), name


def test_every_field_comes_from_a_variable() -> None:
    assert set(FIELDS.values()) == set(Settings.__dataclass_fields__)


def test_weights_survive_the_way_through_the_environment() -> None:
    found = read({"SANDBOX_QUEUES": "critical:5,default:2", "SANDBOX_BUILDER_QUEUES": "builds,default"})
    assert found.queues.weights == {"critical": 5, "default": 2} and not found.builder_queues.weights
    assert read(texts(found)).queues.weights == found.queues.weights
    assert found.all_queues == ("critical", "default", "builds")


def test_builders_without_a_queue_are_refused() -> None:
    with pytest.raises(SettingsError, match="SANDBOX_BUILDERS is 2, and SANDBOX_BUILDER_QUEUES"):
        read({"SANDBOX_BUILDERS": "2"})


def test_whoever_turns_workspaces_on_gets_a_builder_for_them_unless_somebody_serves_them() -> None:
    on = {"SANDBOX_WORKSPACE_GIT": "/srv/p.git"}
    assert (read(on).builders, read(on).builder_queues) == (1, ("workspaces",))
    found = read(on | {"SANDBOX_BUILDERS": "3", "SANDBOX_BUILDER_QUEUES": "builds:5"})
    assert (found.builders, found.builder_queues) == (3, ("builds", "workspaces"))
    assert read(texts(found)) == found
    served = read(on | {"SANDBOX_QUEUES": "default,workspaces"})
    assert (served.builders, served.builder_queues) == (0, ())


def test_workspaces_without_isolation_are_refused_off_loopback() -> None:
    plain = {"SANDBOX_WORKSPACE_GIT": "/srv/p.git", "SANDBOX_WORKSPACE_ISOLATION": "plain"}
    with pytest.raises(SettingsError, match="workspaces without isolation are for one's own machine") as refused:
        read(plain | {"SANDBOX_BIND": "10.0.0.1"})
    assert "10.0.0.1" in str(refused.value) and "install the steward" in str(refused.value)
    for bind in ("127.0.0.1", "::1", "localhost", "unix:/run/sandbox.sock"):
        assert read(plain | {"SANDBOX_BIND": bind}).on_loopback
