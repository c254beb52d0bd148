"""Each line of templates/nginx, in a real nginx."""

import contextlib
import re
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme

from rollout import templates
from service.web.api.git_hooks import BODY_LIMIT as PUSH_LIMIT
from service.web.api.waiting import LONGEST_SECONDS
from service.web.body import BODY_LIMIT
from tests.deploy.project import DOMAIN
from tests.deploy.site import Answer, Site
from tests.deploy.upstream import Handler, Request, Upstream, broken_off, told_back
from tests.servers import eventually

MIB = 1024 * 1024
KEY = {"Idempotency-Key": "order-17"}
Make = Callable[..., tuple[Site, Upstream]]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short name, because sockets lie in it; nginx's user may enter."""
    with tempfile.TemporaryDirectory(prefix="site-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def make(folder: Path) -> Iterator[Make]:
    """A site and what is behind it. Keywords are keys of the stage; `instead` are texts that the site has instead."""
    with contextlib.ExitStack() as stack:

        def made(*, instead: dict[str, str] | None = None, behind: bool = True, **keys: Any) -> tuple[Site, Upstream]:
            site = Site(folder / "nginx", **keys)
            stack.callback(site.stop)
            upstream = Upstream(site.socket if behind else folder / "other.sock")
            stack.callback(upstream.stop)
            return site.start(**(instead or {})), upstream

        yield made


def assert_is_a_problem(answer: Answer, status: int) -> None:
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json
    assert problem["status"] == status and problem["type"] == "about:blank"
    assert problem["title"] and problem["detail"].endswith(".")
    assert len(answer.headers.get_all("X-Request-ID") or []) == 1


# --- names, addresses, TLS ----------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_it_answers_over_both_versions_of_ip(address: str, make: Make) -> None:
    site, _ = make()
    assert site.ask("GET", "/types", address=address).json["path"] == "/types"
    assert site.ask("GET", "/types", address=address, secure=False).status == 308


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_who_comes_without_tls_is_sent_to_it(method: str, make: Make) -> None:
    site, upstream = make()
    answer = site.ask(method, "/tasks?status=failed", b"{}" if method == "POST" else None, secure=False)
    assert (answer.status, answer.headers["Location"]) == (308, f"https://{DOMAIN}/tasks?status=failed")
    assert answer.headers["Strict-Transport-Security"] is None  # browsers heed it with TLS only
    assert upstream.requests == []


@pytest.mark.parametrize("secure", [True, False])
def test_the_log_has_no_query_for_it_may_hold_a_code_that_signs_in(secure: bool, make: Make) -> None:
    site, _ = make()
    site.ask("GET", "/ui/sign-in?code=hunter2", secure=secure)
    log = site.folder / "sandbox.log"
    line = eventually(lambda: log.exists() and log.read_text())
    assert '"GET /ui/sign-in"' in line and "hunter2" not in line


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("name", ["another.example.com", "127.0.0.1"])
def test_who_asks_for_another_name_has_come_to_the_wrong_place(name: str, secure: bool, make: Make) -> None:
    site, upstream = make()
    mark = re.search(r"^# mark ([0-9a-f]{12})$", site.rendered, re.MULTILINE)
    for address in ("127.0.0.1", "::1"):
        answer = site.ask("GET", "/openapi.json", name=name, secure=secure, address=address)
        assert_is_a_problem(answer, 421)
        assert mark and answer.headers["X-Sandbox-Site"] == mark[1]
    assert upstream.requests == []


def test_the_mark_is_that_of_all_that_is_rendered(folder: Path) -> None:
    site = Site(folder / "nginx")
    texts = {site.rendered}
    for keys in ({"connections": 7}, {"balancers": ["10.0.0.7"]}, {"requests_burst": 3}):
        site.configure(**keys)
        texts.add(site.rendered)
    template = site.folder / "deploy" / "templates" / "nginx"
    template.write_text(template.read_text() + "# more\n")
    texts.add(site.rendered)
    marks = {re.findall(r"^# mark (\S+)$|X-Sandbox-Site (\S+) always", text, re.MULTILINE)[0] for text in texts}
    assert len(marks) == len(texts) == 5


@pytest.mark.parametrize(
    ("version", "is_taken"),
    [
        (ssl.TLSVersion.TLSv1, False),
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
@pytest.mark.parametrize("name", [DOMAIN, "another.example.com"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_is_of_version_1_2_or_1_3(name: str, version: ssl.TLSVersion, is_taken: bool, make: Make) -> None:
    site, _ = make()
    context = ssl._create_unverified_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection(("127.0.0.1", site.secure), 30) as plain:
        if is_taken:
            with context.wrap_socket(plain, server_hostname=name) as secure:
                assert secure.selected_alpn_protocol() == "h2"
        else:
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(plain, server_hostname=name)


def test_browsers_are_told_to_stay_with_tls(make: Make) -> None:
    site, _ = make()
    a_release(site.folder, "1", {"page.css": "a"})
    for path in ("/types", "/static/page.css", "/static/nothing.css"):
        assert site.ask("GET", path).headers.get_all("Strict-Transport-Security") == ["max-age=31536000"], path
    assert site.ask("GET", "/types", headers={"Host": DOMAIN}).headers["Server"] == "nginx"  # no version


# --- what the service gets ----------------------------------------------------------------------------


def test_the_service_gets_the_request_as_it_is(make: Make) -> None:
    site, upstream = make()
    path = "/tasks/a%2Fb//c?x=%20&y=%C3%A9"
    site.ask("POST", path, b'{"type": "echo"}', {"Host": DOMAIN, "X-Forwarded-For": "6.6.6.6", **KEY})
    [request] = upstream.requests
    assert (request.method, request.path, request.body) == ("POST", path, b'{"type": "echo"}')
    assert request.headers["host"] == DOMAIN and request.headers["x-forwarded-proto"] == "https"
    assert request.headers["idempotency-key"] == "order-17"
    assert request.headers["x-forwarded-for"].split(", ")[-1] == "127.0.0.1"
    assert "connection" not in request.headers


def test_connections_to_the_service_are_kept(make: Make) -> None:
    site, upstream = make()
    for _ in range(10):
        assert site.ask("GET", "/tasks").status == 200
        assert site.ask("POST", "/tasks", b"{}", KEY).status == 200
    assert upstream.connections < 10  # a worker of nginx each


def test_what_may_be_sent_once_only_comes_on_a_connection_of_its_own(make: Make) -> None:
    site, upstream = make()
    for _ in range(5):
        assert site.ask("POST", "/tasks", b"{}").status == 200
    assert upstream.connections == 5


def test_connections_are_kept_for_less_long_than_the_service_keeps_them(make: Make) -> None:
    site, _ = make()
    assert seconds(site, "keepalive_timeout") < 75  # conf/gunicorn.py


def test_a_client_behind_a_balancer_is_known_by_its_own_address(make: Make) -> None:
    site, upstream = make(balancers=["127.0.0.0/8", "10.0.0.7"])
    for told, client in [("1.2.3.4", "1.2.3.4"), ("6.6.6.6, 1.2.3.4, 10.0.0.7", "1.2.3.4"), ("nonsense", "127.0.0.1")]:
        site.ask("GET", "/tasks", headers={"X-Forwarded-For": told})
        assert upstream.requests[-1].headers["x-forwarded-for"].split(", ")[-1] == client


def test_a_client_that_is_no_balancer_is_not_believed(make: Make) -> None:
    site, upstream = make(balancers=["10.0.0.7"])
    site.ask("GET", "/tasks", headers={"X-Forwarded-For": "1.2.3.4"})
    assert upstream.requests[-1].headers["x-forwarded-for"] == "1.2.3.4, 127.0.0.1"


@pytest.mark.parametrize(("sent", "is_kept"), [("abc-17", True), ("x" * 129, False), ("a b", False), (None, False)])
def test_each_request_has_an_id_and_each_answer_has_it_once(sent: str | None, is_kept: bool, make: Make) -> None:
    site, upstream = make()
    answers = [site.ask("GET", path, headers={"X-Request-ID": sent} if sent else {}) for path in ("/a", "/static/b")]
    for answer in answers:
        [shown] = answer.headers.get_all("X-Request-ID") or []
        assert (shown == sent) is is_kept
        assert re.fullmatch(r"[A-Za-z0-9._:/+=-]{1,128}", shown)
    assert upstream.requests[0].headers["x-request-id"] == answers[0].headers["X-Request-ID"]


# --- sent again ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "headers", "attempts", "status"),
    [
        ("GET", {}, 2, 200),
        ("DELETE", {}, 2, 200),
        ("POST", KEY, 2, 200),
        ("POST", {}, 1, 502),
        ("POST", {"Idempotency-Key": ""}, 1, 502),
    ],
)
@pytest.mark.parametrize("warm", [False, True])
def test_what_got_no_answer_is_sent_again_if_that_can_do_no_harm(
    warm: bool, method: str, headers: dict[str, str], attempts: int, status: int, make: Make
) -> None:
    site, upstream = make()
    for _ in range(20 if warm else 0):
        site.ask("GET", "/tasks")  # connections that are kept
    upstream.requests.clear()
    upstream.answer = broken_off(1)
    answer = site.ask(method, "/tasks", b"{}" if method == "POST" else None, headers)
    assert (answer.status, len(upstream.requests)) == (status, attempts)
    assert site.ask("POST", "/tasks", b"{}").status == 200  # and the service does not count as down


def test_when_a_process_of_the_service_dies_what_may_be_sent_again_is(make: Make) -> None:
    site, upstream = make()
    asked = threading.Barrier(9)

    def all_at_once(handler: Handler, request: Request) -> None:
        asked.wait(30)
        asked.wait(30)  # the death is between
        handler.break_off()

    upstream.answer = all_at_once
    with ThreadPoolExecutor(8) as clients:
        answers = [clients.submit(site.ask, "GET", "/tasks") for _ in range(8)]
        asked.wait(30)
        upstream.answer = told_back
        upstream.break_connections()
        asked.wait(30)
        assert [answer.result().status for answer in answers] == [200] * 8


def test_what_is_slow_is_not_asked_again(make: Make) -> None:
    site, upstream = make(
        instead={"proxy_read_timeout 75s": "proxy_read_timeout 1s", "upstream_timeout 70s": "upstream_timeout 900ms"}
    )
    over = threading.Event()
    upstream.answer = lambda handler, request: (over.wait(30), handler.break_off())[1]
    answer = site.ask("GET", "/tasks")
    over.set()
    assert_is_a_problem(answer, 504)
    assert len(upstream.requests) == 1


def test_who_prefers_to_wait_may_wait_for_as_long_as_the_service_lets_him(make: Make) -> None:
    site, _ = make()
    assert LONGEST_SECONDS < seconds(site, "proxy_next_upstream_timeout") < seconds(site, "proxy_read_timeout")


def seconds(site: Site, name: str) -> int:
    found = re.search(rf"\b{name} (\d+)s;", site.rendered)
    assert found
    return int(found[1])


# --- nginx's own answers ------------------------------------------------------------------------------


def test_the_service_itself_refuses_a_body_that_is_a_little_too_large(make: Make) -> None:
    site, upstream = make()
    assert site.ask("POST", "/tasks", b" " * MIB).json["bytes"] == MIB > 2 * BODY_LIMIT
    assert_is_a_problem(site.ask("POST", "/tasks", b" " * (MIB + 1)), 413)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("headers", [KEY, {}])
def test_a_push_comes_through_as_large_as_the_service_takes_it(headers: dict[str, str], make: Make) -> None:
    site, upstream = make()
    for body in (b" " * PUSH_LIMIT, iter([b" " * PUSH_LIMIT])):  # the latter in chunks
        assert site.ask("POST", "/hooks/git", body, headers).json["bytes"] == PUSH_LIMIT
    assert_is_a_problem(site.ask("POST", "/hooks/git", b" " * (6 * MIB + 1), headers), 413)
    request = upstream.requests[0]
    assert (request.headers["x-forwarded-proto"], request.headers["host"]) == ("https", DOMAIN)


def test_a_body_that_the_service_takes_is_written_to_no_disk(make: Make) -> None:
    site, _ = make()
    assert site.ask("POST", "/tasks", b" " * BODY_LIMIT).status == 200
    assert "buffered to a temporary file" not in (site.folder / "nginx.log").read_text()


@pytest.mark.parametrize("headers", [KEY, {}])
def test_a_service_that_is_away_is_told_as_a_problem(headers: dict[str, str], make: Make) -> None:
    site, _ = make(behind=False)
    for path in ("/tasks", "/openapi.json"):
        answer = site.ask("POST", path, b"{}", {**headers, "X-Request-ID": "mine"})
        assert_is_a_problem(answer, 502)
        assert (answer.headers["Retry-After"], answer.headers["X-Request-ID"]) == ("1", "mine")


def test_what_the_service_says_of_itself_is_left_as_it_is(make: Make) -> None:
    site, upstream = make()
    for status in (404, 413, 429, 503):
        upstream.answer = lambda handler, _, status=status: handler.send(  # type: ignore[misc]
            status, b'{"detail": "mine"}', Retry_After="7", X_Request_ID="r", Content_Type="application/problem+json"
        )
        answer = site.ask("GET", "/tasks")
        assert (answer.status, answer.json) == (status, {"detail": "mine"})
        assert answer.headers.get_all("Retry-After") == ["7"]
        assert answer.headers.get_all("X-Request-ID") == ["r"]


# --- limits -------------------------------------------------------------------------------------------


def test_who_asks_too_often_is_told_to_come_later_and_others_are_served(make: Make) -> None:
    site, upstream = make(requests_per_second=1, requests_burst=2, balancers=["127.0.0.1"])
    answers = [site.ask("GET", "/tasks", headers={"X-Forwarded-For": "1.2.3.4"}) for _ in range(20)]
    refused = [answer for answer in answers if answer.status == 429]
    assert len(refused) >= 10 and [answer.status for answer in answers[:3]] == [200] * 3
    assert_is_a_problem(refused[0], 429)
    assert refused[0].headers["Retry-After"] == "1"
    assert site.ask("GET", "/tasks", headers={"X-Forwarded-For": "1.2.3.5"}).status == 200
    assert len(upstream.requests) == 21 - len(refused)


def test_who_has_too_many_requests_open_is_told_to_come_later(make: Make) -> None:
    site, upstream = make(connections=2)
    over = threading.Event()
    upstream.answer = lambda handler, request: (over.wait(30), told_back(handler, request))[1]
    with ThreadPoolExecutor(2) as clients:
        waiting = [clients.submit(site.ask, "POST", "/tasks", b"{}") for _ in range(2)]
        eventually(lambda: len(upstream.requests) == 2, 30)
        assert_is_a_problem(site.ask("GET", "/tasks"), 429)
        over.set()
        assert [one.result().status for one in waiting] == [200, 200]
    assert site.ask("GET", "/tasks").status == 200


# --- event streams ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/tasks/5f0c/events", "/ui/live"])
def test_an_event_is_passed_on_when_it_comes(path: str, make: Make) -> None:
    site, upstream = make()
    over = threading.Event()
    upstream.answer = stream(over, X_Accel_Buffering="no")
    connection = site.connection()
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.readline() == b"event: task\n"
    assert answer.headers["X-Accel-Buffering"] == "no"  # for a balancer in front
    over.set()
    assert answer.read().endswith(b"end\n\n")
    connection.close()


def stream(over: threading.Event, **headers: str) -> Callable[[Handler, Request], None]:
    def answer(handler: Handler, _: Request) -> None:
        handler.send_response(200)
        for name, value in {"Content-Type": "text/event-stream", "Connection": "close", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(b"event: task\ndata: 1\n\n")
        over.wait(30)
        handler.wfile.write(b"event: end\ndata: end\n\n")
        handler.close_connection = True

    return answer


# --- /static/ -----------------------------------------------------------------------------------------


def a_release(folder: Path, name: str, files: dict[str, str]) -> Path:
    """And it becomes the current one."""
    code = folder / "releases" / name / ".venv/lib/python3.11/site-packages/service"
    static = code / "web" / "page" / "static"
    static.mkdir(parents=True)
    (static.parent / "secret.html").write_text("a template")
    for file, text in files.items():
        (static / file).parent.mkdir(exist_ok=True)
        (static / file).write_text(text)
    (folder / "releases" / name / "package").symlink_to(".venv/lib/python3.11/site-packages/service")
    (folder / "current.new").symlink_to(f"releases/{name}")
    (folder / "current.new").replace(folder / "current")
    return static


def test_the_files_of_the_page_are_those_of_the_current_release(make: Make) -> None:
    site, upstream = make()
    a_release(site.folder, "1", {"page.css": "a {}", "vendor/chart.js": "one"})
    assert site.ask("GET", "/static/page.css").body == b"a {}"
    assert site.ask("GET", "/static/page.css").headers["Content-Type"] == "text/css; charset=utf-8"
    assert site.ask("GET", "/static/page.css").headers["X-Content-Type-Options"] == "nosniff"
    script = site.ask("GET", "/static/vendor/chart.js")
    assert (script.body, script.headers["Content-Type"]) == (b"one", "application/javascript; charset=utf-8")
    a_release(site.folder, "2", {"page.css": "b {}"})
    assert site.ask("GET", "/static/page.css").body == b"b {}"
    assert upstream.requests == []


def test_a_file_with_a_version_in_its_address_is_kept_for_ever(make: Make) -> None:
    site, _ = make()
    a_release(site.folder, "1", {"page.css": "a {}"})
    assert site.ask("GET", "/static/page.css?v=1f").headers["Cache-Control"] == "public, max-age=31536000, immutable"
    new = site.ask("GET", "/static/page.css")
    assert new.headers["Cache-Control"] == "no-cache"
    assert site.ask("GET", "/static/page.css", headers={"If-None-Match": new.headers["ETag"]}).status == 304
    assert site.ask("GET", "/static/nothing.css?v=1f").headers["Cache-Control"] is None


@pytest.mark.parametrize(
    "path",
    [
        "/static../secret.html",
        "/static/../secret.html",
        "/static/%2e%2e/secret.html",
        "/static/..%2fsecret.html",
        "/static//../../secret.html",
        "/static/out.html",
        "/static/folder/secret.html",
        "/static/vendor",
        "/static/vendor/",
        "/static/",
        "/static/nothing.css",
    ],
)
def test_nothing_but_files_of_the_folder_is_served(path: str, make: Make) -> None:
    site, upstream = make()
    upstream.answer = lambda handler, _: handler.send(404, b"", X_Request_ID="r")
    static = a_release(site.folder, "1", {"vendor/chart.js": "one"})
    (static / "out.html").symlink_to("../secret.html")
    (static / "folder").symlink_to("..")
    answer = site.ask("GET", path)
    assert answer.status in (301, 400, 404) and b"a template" not in answer.body
    if not upstream.requests and answer.status == 404:
        assert_is_a_problem(answer, 404)


def test_without_the_second_slash_it_is_the_services(make: Make) -> None:
    site, upstream = make()
    a_release(site.folder, "1", {"page.css": "a {}"})
    for path in ("/static", "/staticpage.css"):
        assert site.ask("GET", path).json["path"] == path
    assert len(upstream.requests) == 2


# --- the cache ----------------------------------------------------------------------------------------


def cacheable(handler: Handler, request: Request) -> None:
    handler.send(200, str(len(handler.upstream.requests)).encode(), X_Request_ID="r", Cache_Control="max-age=60")


def test_the_description_of_the_calls_is_asked_for_once_while_the_service_lets_it_be_kept(make: Make) -> None:
    site, upstream = make()
    upstream.answer = cacheable
    assert [site.ask("GET", "/openapi.json").body for _ in range(3)] == [b"1"] * 3
    assert site.ask("HEAD", "/openapi.json").status == 200
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("name", ["Authorization", "Cookie"])
def test_what_came_for_somebody_is_neither_kept_nor_taken_from_the_cache(name: str, make: Make) -> None:
    site, upstream = make()
    upstream.answer = cacheable
    bodies = [site.ask("GET", "/openapi.json", headers={name: "Bearer sbx_a"}).body for _ in range(2)]
    assert bodies == [b"1", b"2"]
    assert site.ask("GET", "/openapi.json").body == b"3"
    assert site.ask("GET", "/openapi.json", headers={name: "Bearer sbx_a"}).body == b"4"
    assert site.ask("GET", "/openapi.json").body == b"3"


@pytest.mark.parametrize("headers", [{}, {"Cache_Control": "no-store"}, {"Cache_Control": "private, max-age=60"}])
def test_what_the_service_does_not_let_be_kept_is_not(headers: dict[str, str], make: Make) -> None:
    site, upstream = make()
    upstream.answer = lambda handler, _: handler.send(200, b"{}", X_Request_ID="r", **headers)
    for _ in range(2):
        site.ask("GET", "/openapi.json")
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("path", ["/tasks", "/tasks/5f0c", "/types", "/ui", "/openapi.json/"])
def test_nothing_else_is_kept_whatever_it_says(path: str, make: Make) -> None:
    site, upstream = make()
    upstream.answer = cacheable
    assert [site.ask("GET", path).body for _ in range(2)] == [b"1", b"2"]
    assert site.ask("HEAD", path, headers={"If-None-Match": '"x"'}).status == 200
    assert upstream.requests[-1].method == "HEAD" and upstream.requests[-1].headers["if-none-match"] == '"x"'


# --- in front of several hosts ------------------------------------------------------------------------


class Hosts:
    """Two hosts, and a balancer in front."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.upstreams = []
        self.sites = []
        for name in ("host1", "host2"):
            site = Site(folder / name, balancers=["127.0.0.1"])
            self.upstreams.append(Upstream(site.socket))
            stack.callback(self.upstreams[-1].stop)
            stack.callback(site.start().stop)
            self.sites.append(site)
        self.balancer = Site(folder / "balancer", hosts=("root@host1.example.com:2222", "host2.example.com"))
        places = {
            f"server {name}.example.com:443 ": f"server 127.0.0.1:{site.secure} "
            for name, site in zip(("host1", "host2"), self.sites, strict=True)
        }
        places["/etc/ssl/certs/ca-certificates.crt"] = str(self.balancer.folder / "ca.pem")
        stack.callback(self.balancer.start(templates.balancer(self.balancer.read), **places).stop)

    @property
    def counts(self) -> list[int]:
        return [len(upstream.requests) for upstream in self.upstreams]


@pytest.fixture
def hosts(folder: Path) -> Iterator[Hosts]:
    with contextlib.ExitStack() as stack:
        yield Hosts(folder, stack)


def test_a_balancer_spreads_requests_and_hosts_know_the_clients(hosts: Hosts) -> None:
    for _ in range(10):
        answer = hosts.balancer.ask("GET", "/tasks", headers={"X-Forwarded-For": "6.6.6.6"}, source="127.0.0.2")
        assert answer.status == 200 and answer.headers.get_all("Strict-Transport-Security") == ["max-age=31536000"]
        hosts.balancer.ask("POST", "/tasks", b"{}", source="127.0.0.2")
    assert min(hosts.counts) > 0 and sum(hosts.counts) == 20
    told = hosts.upstreams[0].requests[0].headers["x-forwarded-for"].split(", ")
    assert told[0] == "6.6.6.6" and told[-1] == "127.0.0.2"
    assert hosts.balancer.ask("GET", "/tasks", secure=False).headers["Location"] == f"https://{DOMAIN}/tasks"


@pytest.mark.parametrize("what", ["host", "service"])
def test_a_balancer_asks_another_host_when_one_is_gone(what: str, hosts: Hosts) -> None:
    (hosts.sites if what == "host" else hosts.upstreams)[0].stop()  # type: ignore[index]
    for _ in range(6):
        assert hosts.balancer.ask("GET", "/tasks").status == 200
        assert hosts.balancer.ask("POST", "/tasks", b"{}", KEY).status == 200
    if what == "host":
        assert hosts.balancer.ask("POST", "/tasks", b"{}").status == 200  # it could not be sent


@pytest.mark.parametrize(("headers", "status", "attempts"), [(KEY, 200, 2), ({}, 502, 1)])
def test_a_balancer_sends_a_post_again_only_with_a_key(
    headers: dict[str, str], status: int, attempts: int, hosts: Hosts
) -> None:
    once = broken_off(1)
    for upstream in hosts.upstreams:
        upstream.answer = once
    assert hosts.balancer.ask("POST", "/tasks", b"{}", headers).status == status
    assert sum(hosts.counts) == attempts


@pytest.mark.parametrize("headers", [KEY, {}])
def test_a_push_comes_through_a_balancer_as_large_as_the_service_takes_it(
    headers: dict[str, str], hosts: Hosts
) -> None:
    for body in (b" " * PUSH_LIMIT, iter([b" " * PUSH_LIMIT])):  # the latter in chunks
        answer = hosts.balancer.ask("POST", "/hooks/git", body, headers)
        assert answer.json["bytes"] == PUSH_LIMIT
    assert_is_a_problem(hosts.balancer.ask("POST", "/hooks/git", b" " * (6 * MIB + 1), headers), 413)
    assert sum(hosts.counts) == 2


def test_a_balancer_whose_hosts_are_all_gone_says_so(hosts: Hosts) -> None:
    for site in hosts.sites:
        site.stop()
    answer = hosts.balancer.ask("GET", "/tasks")
    assert_is_a_problem(answer, 502)
    assert answer.headers["Retry-After"] == "1"


def test_a_balancer_passes_events_on_when_they_come(hosts: Hosts) -> None:
    over = threading.Event()
    for upstream in hosts.upstreams:
        upstream.answer = stream(over, X_Accel_Buffering="no")
    connection = hosts.balancer.connection()
    connection.request("GET", "/tasks/5f0c/events")
    answer = connection.getresponse()
    assert answer.readline() == b"event: task\n"
    over.set()
    answer.read()
    connection.close()


def test_a_page_and_its_files_come_from_one_host(hosts: Hosts) -> None:
    for site in hosts.sites:
        a_release(site.folder, "1", {"page.css": site.folder.name})
    pages = {hosts.balancer.ask("GET", "/ui").status for _ in range(6)}
    files = {hosts.balancer.ask("GET", "/static/page.css").body for _ in range(6)}
    assert pages == {200} and min(hosts.counts) == 0
    assert files == {b"host1" if hosts.counts[0] else b"host2"}


def test_a_balancer_believes_only_hosts_that_prove_their_name(hosts: Hosts) -> None:
    stranger = trustme.CA().issue_cert(DOMAIN)
    for site in hosts.sites:
        site.stop()
        stranger.private_key_pem.write_to_path(site.folder / "key.pem")
        stranger.cert_chain_pems[0].write_to_path(site.folder / "cert.pem")
        site.start()
    assert_is_a_problem(hosts.balancer.ask("GET", "/tasks"), 502)
    assert hosts.counts == [0, 0]
