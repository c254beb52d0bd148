"""The limits, and what waits at them, as the page shows them."""

import html
import json
import re

import pytest
from flask.testing import FlaskClient

from tests.web.page.conftest import OWN, Guarded, Seen, said


def test_limits_are_listed_with_what_waits_and_those_that_nobody_has_set(open_page: FlaskClient) -> None:
    rule = {"key": "args.customer", "concurrency": 1, "overrides": {"<b>acme": {"rate": "5/second", "burst": 2}}}
    assert open_page.put("/limits/per-customer", json=rule, headers=OWN).status_code == 201
    uids = [open_page.post("/tasks", json={"type": "bounded"}, headers=OWN).json["uid"] for _ in range(3)]
    shown = open_page.get("/ui/limits").text
    assert (
        "1 at once" in shown
        and "&lt;b&gt;acme: 5/second, 2 at first" in shown
        and "<code>args.customer</code>" in shown
    )
    assert '<td class="number">2</td><td class="number">1</td>' in shown
    assert "not set" in shown and "its types are not limited" in shown  # partner, of bounded.twice

    assert "Waits for" not in open_page.get(f"/ui/tasks/{uids[0]}").text
    assert 'the limit <a href="/ui/limits/per-customer">per-customer</a>' in open_page.get(f"/ui/tasks/{uids[1]}").text


def form(**fields: str) -> dict[str, str]:
    """As a browser sends it: each field, also empty."""
    return dict.fromkeys(("key", "concurrency", "rate", "burst", "overrides"), "") | fields


def test_one_is_set_changed_and_removed(open_page: FlaskClient) -> None:
    assert ">not set</span>" in open_page.get("/ui/limits/partner").text
    own = 'acme: concurrency=10\r\n\r\n b:c : rate=5/second,burst=2 \r\n"\\u2028\\"x": concurrency=1\r\n'
    wanted = form(name=" partner ", key="args.customer", concurrency="2", rate="100/minute", overrides=own)
    answer = open_page.post("/ui/limits", data=wanted, headers=OWN)
    assert answer.headers["Location"] == "/ui/limits/partner"
    assert said(open_page, answer) == "The limit is set."
    found = open_page.get("/limits/partner").json
    assert (found["key"], found["concurrency"], found["rate"], found["burst"]) == (
        "args.customer", 2, "100/minute", None,
    )  # fmt: skip
    bounds = {"acme": {"concurrency": 10}, "b:c": {"rate": "5/second", "burst": 2}, '\u2028"x': {"concurrency": 1}}
    assert found["overrides"] == bounds

    page = Seen(open_page.get("/ui/limits/partner"))
    shown = {name: page.all("input", name=name)[0]["value"] for name in ("key", "concurrency", "rate", "burst")}
    assert shown == {"key": "args.customer", "concurrency": "2", "rate": "100/minute", "burst": ""}
    lines = html.unescape(re.findall(r"<textarea[^>]*>\n(.*?)</textarea>", page.text, re.DOTALL)[0])
    changed = open_page.post("/ui/limits/partner", data=form(**shown | {"burst": "3", "overrides": lines}), headers=OWN)
    assert said(open_page, changed) == "The limit is changed."
    found = open_page.get("/limits/partner").json
    assert (found["burst"], found["overrides"]) == (3, bounds)

    removed = open_page.post("/ui/limits/partner/remove", headers=OWN)
    assert said(open_page, removed).startswith("The limit partner is removed.")
    assert open_page.get("/limits/partner").json["set"] is False
    assert open_page.post("/ui/limits/partner/remove", headers=OWN).status_code == 404
    assert open_page.get("/ui/limits/nothing").status_code == 404


def test_the_list_after_a_form_is_as_it_is_now(open_page: FlaskClient) -> None:
    open_page.put("/limits/away", json={"concurrency": 1}, headers=OWN)
    assert "away" in open_page.get("/ui/limits").text
    answer = open_page.post("/ui/limits/away/remove", headers=OWN)
    assert "/ui/limits/away" not in open_page.get(answer.headers["Location"]).text


@pytest.mark.parametrize(
    ("changed", "field", "words"),
    [
        ({"name": "a b"}, "name", "letters, digits"),
        ({"name": "there"}, "name", "set already"),
        ({"key": "customer"}, "key", "as in args.customer"),
        ({"concurrency": ""}, "concurrency", "give concurrency, or rate, or both"),
        ({"concurrency": "many"}, "concurrency", "a whole number from 1 to 1,000,000"),
        ({"concurrency": "0"}, "concurrency", "a whole number from 1 to 1,000,000"),
        ({"rate": "fast"}, "rate", "as in 100/minute"),
        ({"burst": "2"}, "burst", "it goes with a rate"),
        ({"overrides": "acme: concurrency=1"}, "overrides", "there is no key"),
        ({"key": "args.a", "overrides": "ok: concurrency=1\nacme"}, "overrides", "line 2: as in acme: concurrency"),
        ({"key": "args.a", "overrides": "a: most=1"}, "overrides", "line 1: as in acme"),
        ({"key": "args.a", "overrides": "a: rate=x"}, "overrides", "line 1: rate: as in 100/minute"),
        ({"key": "args.a", "overrides": '"a: concurrency=1'}, "overrides", "begins with a double quote"),
        ({"key": "args.a", "overrides": "a: concurrency=1\na: concurrency=2"}, "overrides", "a line already"),
        ({"key": "args.a", "overrides": f"{'x' * 501}: concurrency=1"}, "overrides", "at most 500 characters"),
        ({"key": "args.a", "overrides": "a: rate=5/second\nb: burst=2"}, "concurrency", "overrides.b.concurrency"),
    ],
)
def test_what_is_wrong_is_said_beside_the_form_which_keeps_what_was_typed(
    open_page: FlaskClient, changed: dict[str, str], field: str, words: str
) -> None:
    open_page.put("/limits/there", json={"rate": "1/day"}, headers=OWN)
    sent = form(name="partner", concurrency="7") | changed
    answer = open_page.post("/ui/limits", data=sent, headers=OWN)
    assert answer.status_code == 422
    page = Seen(answer)
    [alert] = re.findall(r'<p class="said bad" role="alert"[^>]*>(.*?)</p>', answer.text)
    assert words in html.unescape(alert)
    marked = [tag["name"] for kind in ("input", "textarea") for tag in page.all(kind, **{"aria-invalid": "true"})]
    assert marked == [field]
    for name in sent.keys() - {"overrides"}:
        assert page.all("input", name=name)[0]["value"] == sent[name]
    assert html.escape(sent["overrides"], quote=False).replace('"', "&#34;") in answer.text
    assert open_page.get("/limits/partner").json["set"] is False

    if field != "name":
        own = open_page.post("/ui/limits/partner", data=sent, headers=OWN)
        assert own.status_code == 422 and words in html.unescape(own.text)


def test_who_may_only_read_sees_no_form_and_a_form_from_elsewhere_is_refused(guarded: Guarded) -> None:
    reader, writer = guarded.somebody("read"), guarded.somebody("write")
    sent = form(name="partner", concurrency="1")
    for place in ("/ui/limits", "/ui/limits/partner", "/ui/limits/partner/remove"):
        assert reader.post(place, data=sent, headers=OWN).status_code == 403
        assert writer.post(place, data=sent, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert guarded.stranger().post(place, data=sent, headers=OWN).headers["Location"].startswith("/ui/sign-in")
    assert writer.post("/ui/limits", data=sent, headers=OWN).status_code == 303
    for place in ("/ui/limits", "/ui/limits/partner"):
        assert '<form class="card" method="post"' not in reader.get(place).text
        assert '<form class="card" method="post"' in writer.get(place).text
    assert "/remove" not in reader.get("/ui/limits/partner").text
    told = (guarded.file.parent / "audit.log").read_text().splitlines()
    assert [(line["did"], line["by"]) for line in map(json.loads, told) if "limit" in line] == [("limited", "writeer")]
