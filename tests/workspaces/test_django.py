"""A Django project, from an email to its page, and away again without a trace."""

import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.pythons import pythons, version
from tests.servers import eventually
from tests.workspaces.yard import EMAIL, SLUG, Yard, requests_while


def test_an_email_becomes_a_running_copy_and_goes_without_a_trace(yard: Yard) -> None:
    yard.places.shared_media.mkdir(parents=True)
    (yard.places.shared_media / "lamp.svg").write_text("<svg/>")

    shown = yard.done("create", email="Jo@example.org")
    assert (shown["state"], shown["slug"], shown["branch"]) == ("ready", SLUG, EMAIL)
    assert shown["address"] == f"http://{SLUG}.localhost:{yard.port}/"
    status, page = yard.get()
    assert status == 200 and "a lamp" in page
    assert "font" in yard.get("/static/shop.css")[1]
    assert yard.get("/media/lamp.svg") == (200, "<svg/>")
    assert yard.branches()[EMAIL] == yard.branches()["main"]
    env = yard.home().env
    assert env.stat().st_mode & 0o777 == 0o640 and "SECRET_KEY=\n" not in env.read_text()
    assert shown["unpushed"] == [] and "DEBUG=1" in env.read_text()

    template = yard.home().code / "shop" / "templates" / "shop.html"
    template.write_text(template.read_text().replace("The shop", "My shop"))
    eventually(lambda: "My shop" in yard.get()[1], 60)

    assert "uncommitted:  M shop/templates/shop.html" in yard.refused("delete", slug=SLUG)
    assert yard.record().state == "ready" and "My shop" in yard.get()[1]
    gone = yard.done("delete", slug=SLUG, force=True)
    assert gone["state"] == "deleted"
    assert list(yard.branches()) == ["main"]
    assert os.listdir(yard.places.homes) == os.listdir(yard.places.sockets) == []
    assert (yard.places.shared_media / "lamp.svg").exists()
    assert yard.get()[0] == 421
    assert yard.done("delete", slug=SLUG)["state"] == "deleted"


@pytest.mark.slow
def test_a_rebuild_to_another_python_under_load_fails_no_request(yard: Yard) -> None:
    _, another = both = pythons()
    yard.plan = yard.planned(pythons=both)
    yard.done("create", email=EMAIL)
    seen = requests_while(yard, lambda: yard.done("rebuild", slug=SLUG, python=another))
    assert len(seen) > 10 and set(seen) == {200}
    assert yard.record().python == another and yard.record().venv == 2
    assert version(yard.home().venv / "bin" / "python") == version(Path(another))
    assert yard.done("test", slug=SLUG)["passed"]
    seen = requests_while(yard, lambda: [yard.done("restart", slug=SLUG) for _ in range(3)])
    assert set(seen) == {200}


@pytest.mark.slow
def test_twenty_are_made_at_once_and_one_email_has_one(yard: Yard) -> None:
    emails = ["a.b@example.org", "a-b@example.org", *(f"person{n}@example.org" for n in range(18))]
    yard.plan = yard.planned(most_building=20)
    with ThreadPoolExecutor(4) as builders:
        outcomes = list(builders.map(lambda email: yard.do("create", email=email), [emails[0], *emails]))
    statuses = Counter(outcome.status for outcome in outcomes)
    errors = [outcome.error.message for outcome in outcomes if outcome.error]
    assert statuses == {"succeeded": 20, "scheduled": 1}, errors  # the second one of an email comes again
    made = yard.plan.shelf.all()
    assert {record.state for record in made} == {"ready"} and len({record.port for record in made}) == 20
    assert [yard.get(slug=record.slug)[0] for record in made] == [200] * 20
    for record in made:
        yard.done("delete", slug=record.slug)
    assert list(yard.branches()) == ["main"] and os.listdir(yard.places.homes) == []


@pytest.mark.slow
def test_a_workspace_finds_nothing_of_the_services_environment(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:secret@localhost")
    yard.done("create", email=EMAIL)
    names = json.loads(yard.get("/where")[1])["environment"]
    assert "SECRET_KEY" in names and "REDIS_URL" not in names and "SANDBOX_HOME" not in names


@pytest.mark.slow
def test_links_out_of_the_static_files_are_not_followed(yard: Yard) -> None:
    yard.done("create", email=EMAIL)
    (yard.home().static / "passwd").symlink_to("/etc/passwd")
    assert yard.get("/static/passwd")[0] == 403
    assert yard.get("/static/../../.env")[0] in (400, 404)
    assert yard.get("/static/%2e%2e/%2e%2e/.env")[0] in (400, 404)


@pytest.mark.slow
def test_who_wants_no_names_gets_ports(folder: Path, wheels: str) -> None:
    yard = Yard(folder, wheels=wheels, by_port=True)
    try:
        shown = yard.done("create", email=EMAIL)
        assert shown["address"] == f"http://127.0.0.1:{yard.record().port}/"
        assert yard.get()[0] == 200
        yard.done("restart", slug=SLUG)
        assert yard.get()[0] == 200
        yard.done("delete", slug=SLUG)
        assert yard.record().port is None
    finally:
        yard.close()
