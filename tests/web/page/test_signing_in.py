"""Who gets in, how, and until when."""

import json
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from service.store import Store
from service.web import token_file
from tests.web.page.conftest import OWN, Guarded, Seen, cookie, create, said

PLACES = ("/ui", "/ui/tasks", "/ui/queues", "/ui/runners", "/ui/types", "/ui/audit", f"/ui/tasks/{'0' * 64}")


@pytest.mark.parametrize("place", PLACES)
def test_a_stranger_is_sent_to_the_form_and_then_on_to_where_they_wanted(guarded: Guarded, place: str) -> None:
    client = guarded.stranger()
    sent = client.get(f"{place}?status=failed")
    assert sent.status_code == 303 and sent.headers["Location"].startswith("/ui/sign-in?to=%2Fui")
    to = Seen(client.get(sent.headers["Location"])).hidden("to")
    assert to == f"{place}?status=failed"
    done = client.post("/ui/sign-in", data={"token": guarded.secrets["read"], "to": to}, headers=OWN)
    assert (done.status_code, done.headers["Location"]) == (303, to)
    assert client.get("/ui").status_code == 200


def test_the_cookie_is_for_this_site_alone_and_no_script_reads_it(guarded: Guarded) -> None:
    sent = {"token": guarded.secrets["read"]}
    plain = cookie(guarded.stranger().post("/ui/sign-in", data=sent, headers=OWN), "sandbox_session")
    assert "HttpOnly" in plain and "SameSite=Strict" in plain and "Secure" not in plain
    encrypted = guarded.stranger().post("/ui/sign-in", data=sent, headers=OWN, base_url="https://localhost")
    assert "Secure" in cookie(encrypted, "sandbox_session")
    assert guarded.secrets["read"] not in plain


def test_services_at_several_ports_of_one_host_have_a_session_each(guarded: Guarded) -> None:
    """A browser sends its cookies to all ports of a host."""
    client = guarded.stranger()
    for port, scope in ((8000, "read"), (8001, "write")):
        sent = {"token": guarded.secrets[scope]}
        client.post("/ui/sign-in", data=sent, headers=OWN, base_url=f"http://localhost:{port}")
    assert "reader may read" in client.get("/ui", base_url="http://localhost:8000").text
    client.post("/ui/sign-out", headers=OWN, base_url="http://localhost:8000")
    assert client.get("/ui", base_url="http://localhost:8000").status_code == 303
    assert "writeer may read and write" in client.get("/ui", base_url="http://localhost:8001").text


@pytest.mark.parametrize("token", ["", "sbx_wrong", "Bearer x", "\x00", "ü" * 500])
def test_a_wrong_token_is_told_so(guarded: Guarded, token: str) -> None:
    answer = guarded.stranger().post("/ui/sign-in", data={"token": token}, headers=OWN)
    assert answer.status_code == 403 and "not known here" in answer.text
    assert not cookie(answer, "sandbox_session")


def test_a_session_ends_with_its_token_at_once(guarded: Guarded) -> None:
    client = guarded.somebody("write")
    assert client.get("/ui").status_code == 200
    token_file.remove(guarded.file, "writeer")
    assert client.get("/ui").status_code == 303


def test_a_slash_at_the_end_leads_to_the_page_too(guarded: Guarded) -> None:
    assert guarded.stranger().get("/ui/").headers["Location"].startswith("/ui/sign-in")
    assert guarded.somebody("read").get("/ui/").headers["Location"] == "/ui"


def test_who_sends_a_form_after_the_end_of_the_session_is_told_that_nothing_was_done(guarded: Guarded) -> None:
    client = guarded.somebody("write")
    token_file.remove(guarded.file, "writeer")
    answer = client.post("/ui/queues/default/pause", headers=OWN)
    assert "nothing was done" in said(client, answer)
    assert "nothing was done" not in client.get("/ui/sign-in").text


def test_a_session_does_not_live_on_with_a_new_token_of_the_same_name(guarded: Guarded) -> None:
    client = guarded.somebody("write")
    token_file.remove(guarded.file, "writeer")
    token_file.add(guarded.file, "writeer", "write")
    assert client.get("/ui").status_code == 303


def test_a_session_ends_when_one_signs_out(guarded: Guarded) -> None:
    client = guarded.somebody("read")
    held = client.get_cookie("sandbox_session")
    assert held is not None
    out = client.post("/ui/sign-out", headers=OWN)
    assert out.headers["Location"] == "/ui/sign-in"
    client.set_cookie("sandbox_session", held.value)
    assert client.get("/ui").status_code == 303


def test_sessions_and_codes_end_by_themselves_and_redis_holds_no_secret(guarded: Guarded, store: Store) -> None:
    client = guarded.somebody("read")
    code = guarded.code(store, "read")
    held = client.get_cookie("sandbox_session")
    assert held is not None
    [keys] = store._wire.call(0, ("KEYS", "sandbox:*:[sc]*"))
    kept = [key for key in keys if b":session:" in key or b":code:" in key]
    assert len(kept) == 2
    for key in kept:
        [left] = store._wire.call(0, ("TTL", key))
        assert 0 < left <= 12 * 3600
        assert held.value not in key.decode() and code not in key.decode()


def test_a_link_signs_in_once_and_only_when_the_button_is_pressed(guarded: Guarded, store: Store) -> None:
    code = guarded.code(store, "read")
    client = guarded.stranger()
    for _ in range(2):  # a program that checks mails may look at it
        page = client.get(f"/ui/sign-in?code={code}")
        assert not cookie(page, "sandbox_session")
    form = {"code": Seen(page).hidden("code")}
    assert client.post("/ui/sign-in", data=form, headers=OWN).status_code == 303
    assert client.get("/ui").status_code == 200
    again = guarded.stranger().post("/ui/sign-in", data=form, headers=OWN)
    assert again.status_code == 403 and "has been used" in again.text


def test_a_link_of_a_token_that_is_gone_is_of_no_use(guarded: Guarded, store: Store) -> None:
    code = guarded.code(store, "read")
    again = guarded.code(store, "read")
    token_file.remove(guarded.file, "reader")
    assert guarded.stranger().post("/ui/sign-in", data={"code": code}, headers=OWN).status_code == 403
    token_file.add(guarded.file, "reader", "write")  # another one of that name
    assert guarded.stranger().post("/ui/sign-in", data={"code": again}, headers=OWN).status_code == 403


def test_a_link_of_a_release_that_kept_the_name_alone_is_of_no_use(guarded: Guarded, store: Store) -> None:
    code = guarded.code(store, "read")
    [[key]] = store._wire.call(0, ("KEYS", "sandbox:*:code:*"))
    store._wire.call(0, ("SET", key, "reader"))
    assert guarded.stranger().post("/ui/sign-in", data={"code": code}, headers=OWN).status_code == 403


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil", "/uix", "/ui/\\..", "/ui\r\nX: y"])
def test_nobody_is_sent_elsewhere_afterwards(guarded: Guarded, to: str) -> None:
    sent = {"token": guarded.secrets["read"], "to": to}
    done = guarded.stranger().post("/ui/sign-in", data=sent, headers=OWN)
    assert (done.status_code, done.headers["Location"]) == (303, "/ui")


def test_who_may_only_read_sees_no_buttons_and_is_refused(guarded: Guarded) -> None:
    writer, reader = guarded.somebody("write"), guarded.somebody("read")
    with guarded.app.test_client() as api:
        key = {"Authorization": f"Bearer {guarded.secrets['write']}"}
        uid = api.post("/tasks", json={"type": "echo"}, headers=key).json["uid"]
    for place in ("/ui/tasks", f"/ui/tasks/{uid}", "/ui/types/echo"):
        own = {"/ui/look", "/ui/sign-out", "/ui/tasks/chosen"} if place == "/ui/tasks" else {"/ui/look", "/ui/sign-out"}
        assert {form["action"] for form in Seen(reader.get(place)).all("form", method="post")} <= own
        assert len(Seen(writer.get(place)).all("button")) > len(Seen(reader.get(place)).all("button"))
    for deed in (f"/ui/tasks/{uid}/cancel", f"/ui/tasks/{uid}/purge", "/ui/tasks/chosen", "/ui/types/echo"):
        refused = reader.post(deed, data={"uid": uid, "do": "cancel"}, headers=OWN)
        assert refused.status_code == 403 and "may only read" in refused.text
    assert writer.post(f"/ui/tasks/{uid}/cancel", headers=OWN).status_code == 303


def test_the_audit_log_names_the_token_behind_each_deed(guarded: Guarded, tmp_path: Path) -> None:
    client = guarded.somebody("write")
    client.post("/ui/types/echo", data={"arg:message": "hello"}, headers=OWN)
    client.post("/ui/sign-out", headers=OWN)
    lines = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    told = [(line["did"], line["by"]) for line in lines]
    assert told == [("signed_in", "writeer"), ("created", "writeer"), ("signed_out", "writeer")]


def test_without_tokens_everybody_on_this_host_may_do_everything(open_page: FlaskClient) -> None:
    uid = create(open_page)
    assert open_page.get("/ui/sign-in").headers["Location"] == "/ui"
    assert open_page.post(f"/ui/tasks/{uid}/cancel", headers=OWN).status_code == 303


def test_the_interface_for_programs_does_not_take_the_cookie(guarded: Guarded) -> None:
    client = guarded.somebody("write")
    assert client.get("/tasks").status_code == 401
    assert client.post("/tasks", json={"type": "echo"}, headers=OWN).status_code == 401
