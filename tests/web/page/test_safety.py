"""What a hostile page, or a hostile task, cannot do."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from service.store import Change, Store
from service.tasks import moments, transitions
from service.tasks.document import TaskError, encode
from service.web.app import Web
from service.web.hosts import Hosts
from service.web.page.statics import FOLDER
from tests.web.page.conftest import OWN, Guarded, Seen, create

EVIL = "\"'></pre></td></textarea></title></script><x-evil onx='1' href=\"javascript:1\">{{7*7}}\u202e<!--"


def pages(uid: str) -> list[str]:
    return [
        "/ui",
        "/ui/tasks",
        f"/ui/tasks/{uid}",
        "/ui/queues",
        "/ui/runners",
        "/ui/types",
        "/ui/types/echo",
        "/ui/schedules",
        "/ui/schedules/one",
        "/ui/audit",
        "/ui/x",
    ]


def test_every_answer_carries_the_headers_that_keep_it_safe(guarded: Guarded) -> None:
    client = guarded.somebody("write")
    answers = [client.get(place) for place in [*pages("0" * 64), "/ui/sign-in"]]
    answers += [client.post("/ui/look", headers=OWN), client.post("/ui/look", headers={"Sec-Fetch-Site": "cross-site"})]
    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "frame-ancestors 'none'" in policy and "base-uri 'none'" in policy and "unsafe" not in policy
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-store"


def test_nothing_in_a_page_stands_inline(open_page: FlaskClient) -> None:
    for place in pages(create(open_page, args={"message": "hello"})):
        for tag, attributes in Seen(open_page.get(place)).tags:
            assert tag != "style" and "style" not in attributes, place
            assert tag != "script" or attributes["src"], place
            assert not [name for name in attributes if name.startswith("on")], place


def test_hostile_words_in_a_task_stay_words(open_page: FlaskClient, store: Store) -> None:
    """The type and the queue, too: an earlier release may have let them in."""
    uid = create(open_page, args={"message": {EVIL: [EVIL]}})
    open_page.put("/schedules/one", json={"type": "echo", "every": 60, "args": {"message": {EVIL: [EVIL]}}})
    found = store.read(uid)
    assert found is not None
    now = moments.stamp(1_000_000_000.0)
    error = TaskError(type=EVIL, message=EVIL, event_id=EVIL)
    after = transitions.failed(found.task, error, now, now, 0.5)
    after.request_id = after.created_by = after.schedule = EVIL
    assert store.move([Change(found.text, found.task, after)]).refused == []
    store._wire.call(0, ("SET", uid, encode(after).replace(b'"echo"', json.dumps(EVIL).encode())))
    for place in [*pages(uid), "/ui/tasks?status=failed"]:
        answer = open_page.get(place)
        assert answer.status_code == (404 if place == "/ui/x" else 200)
        harmless(answer)
        assert "\u202e" not in answer.text


def harmless(answer: Any) -> None:
    tags = Seen(answer).tags
    assert not [tag for tag, attributes in tags if tag == "x-evil" or "onx" in attributes]
    assert not [attributes for _, attributes in tags if str(attributes.get("href")).startswith("javascript")]


@pytest.mark.parametrize(
    "path",
    [
        "/ui/tasks?{}", "/ui/tasks?type={}", "/ui/tasks?status={}", "/ui/tasks?queue={}&created_by={}",
        "/ui/tasks?cursor={}", "/ui/tasks?q={}", "/ui/audit?by={}&did={}&uid={}", "/ui/types/{}", "/ui/tasks/{}",
        "/ui/{}", "/ui/types/echo?from={}", "/ui/sign-in?to={}&code={}",
    ],
)  # fmt: skip
def test_hostile_addresses_stay_words(guarded: Guarded, path: str) -> None:
    address = path.replace("{}", quote(EVIL, safe=""))
    for client in (guarded.somebody("write"), guarded.stranger()):
        answer = client.get(address)
        assert answer.status_code in (200, 303, 404, 422)
        harmless(answer)


def test_hostile_words_in_the_audit_log_stay_words(open_page: FlaskClient) -> None:
    for _ in range(2):
        open_page.post("/tasks", json={"type": "echo"}, environ_overrides={"REMOTE_ADDR": EVIL})
        harmless(open_page.get("/ui/audit"))


def test_what_cannot_be_read_is_shown_and_can_be_removed(open_page: FlaskClient, store: Store) -> None:
    uid = create(open_page)
    store._wire.call(0, ("SET", uid, f"{{{EVIL}"))
    page = open_page.get(f"/ui/tasks/{uid}")
    harmless(page)
    assert "unreadable" in page.text and "x-evil" in page.text
    assert open_page.get("/ui/tasks").status_code == 200
    assert open_page.post(f"/ui/tasks/{uid}/purge", headers=OWN).status_code == 303
    assert store.read(uid) is None


# --- forms of other sites ----------------------------------------------------------------------------

REFUSED: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},  # another port, or another subdomain
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
    {"Origin": "http://evil.example"},
    {"Origin": "http://localhost:81"},
    {"Origin": "null"},
    {},
]
ADMITTED: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://localhost"},
    {"Origin": "http://localhost:80"},
]


@pytest.mark.parametrize("headers", REFUSED)
def test_a_form_of_another_site_is_refused(guarded: Guarded, headers: dict[str, str]) -> None:
    client = guarded.somebody("write")
    refused = client.post("/ui/types/echo", data={"arg:message": "x"}, headers=headers)
    assert refused.status_code == 403 and "not sent by the service&#39;s own page" in refused.text
    assert "There are no tasks yet" in client.get("/ui/tasks").text


@pytest.mark.parametrize("headers", ADMITTED)
def test_a_form_of_the_page_itself_is_admitted(guarded: Guarded, headers: dict[str, str]) -> None:
    client = guarded.somebody("write")
    assert client.post("/ui/types/echo", data={"arg:message": "x"}, headers=headers).status_code == 303


@pytest.mark.parametrize("headers", [each for each in REFUSED if each])
def test_nobody_is_signed_in_or_out_by_another_site(guarded: Guarded, headers: dict[str, str]) -> None:
    for place in ("/ui/sign-in", "/ui/sign-out"):
        answer = guarded.stranger().post(place, data={"token": guarded.secrets["write"]}, headers=headers)
        assert answer.status_code == 403 and "Set-Cookie" not in answer.headers


def test_where_no_tokens_are_asked_for_a_page_under_a_name_of_its_own_gets_nothing(
    make_app: Callable[..., Web],
) -> None:
    client = make_app(hosts=Hosts()).test_client()
    for place in ("/ui", "/ui/tasks", "/"):
        assert client.get(place, base_url="http://evil.example").status_code == 421
    assert client.get("/ui", base_url="http://127.0.0.1:8000").status_code == 200


def test_a_program_without_a_cookie_may_send_a_form(open_page: FlaskClient) -> None:
    assert open_page.post("/ui/types/echo", data={"arg:message": "x"}).status_code == 303


def test_a_form_that_is_too_large_is_refused(open_page: FlaskClient) -> None:
    answer = open_page.post("/ui/types/echo", data={"arg:message": "x" * 300_000}, headers=OWN)
    assert answer.status_code == 413


# --- what a browser keeps ----------------------------------------------------------------------------


def test_what_the_page_loads_is_kept_for_ever_under_its_version(open_page: FlaskClient) -> None:
    seen = Seen(open_page.get("/ui"))
    loaded = [tag["src"] for tag in seen.all("script")] + [tag["href"] for tag in seen.all("link")]
    assert len(loaded) == 6
    for address in loaded:
        answer = open_page.get(address)
        assert answer.status_code == 200 and answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert open_page.get(address.partition("?")[0]).headers["Cache-Control"] == "no-cache"


def test_all_that_a_page_loads_has_less_than_100_kb_and_vendored_files_have_their_licences() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if path.suffix in (".css", ".js", ".svg")) < 100 * 1024
    assert {path.name for path in files if "LICENSE" in path.name} == {"LICENSE-idiomorph.txt", "LICENSE-uPlot.txt"}


@pytest.mark.parametrize("path", ["/static/", "/static/../site.py", "/static/nothing.css", "/static/vendor"])
def test_nothing_else_is_served_as_a_file(open_page: FlaskClient, path: str) -> None:
    assert open_page.get(path).status_code == 404
