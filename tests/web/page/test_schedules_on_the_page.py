"""/ui/schedules: the list, one schedule, and the forms."""

from collections.abc import Callable
from typing import Any

from flask.testing import FlaskClient

from service.store import Store
from service.web.app import Web
from tests.web.page.conftest import OWN, Guarded, Seen, said
from tests.web.test_schedules import elsewhere, from_the_code

NIGHTLY: dict[str, Any] = {"type": "echo", "cron": "0 3 * * *", "args": {"message": "<b>night</b>"}}


def put(client: FlaskClient, name: str = "one", **changed: Any) -> None:
    assert client.put(f"/schedules/{name}", json=NIGHTLY | changed).status_code == 201


def test_schedules_are_shown_with_their_times(open_page: FlaskClient) -> None:
    assert "There are none" in open_page.get("/ui/schedules").text
    put(open_page)
    put(open_page, "two", paused=True)
    text = open_page.get("/ui/schedules").text
    assert "At 03:00 every day" in text and "/ui/schedules/one" in text and "paused" in text
    text = open_page.get("/ui/schedules/one").text
    assert text.count("<dt>Then</dt>") == 4 and "03:00:00" in text and "&lt;b&gt;night" in text
    assert "none while it is paused" in open_page.get("/ui/schedules/two").text
    assert open_page.get("/ui/schedules/three").status_code == 404


def test_one_is_run_paused_resumed_and_removed(open_page: FlaskClient, store: Store) -> None:
    put(open_page)

    def do(deed: str) -> str:
        return said(open_page, open_page.post(f"/ui/schedules/one/{deed}", headers=OWN))

    words = do("run")
    [task] = open_page.get("/tasks").json["tasks"]
    assert words.startswith("A task is created for now.") and f"/ui/tasks/{task['uid']}" in words
    assert "run by hand" in open_page.get(f"/ui/tasks/{task['uid']}").text
    open_page.post("/tasks", json={"type": "echo"})
    page = Seen(open_page.get("/ui/schedules/one"))
    [its_tasks] = [link["href"] for link in page.all("a") if "schedule=one" in link["href"]]
    listed = Seen(open_page.get(its_tasks))
    assert [row["value"] for row in listed.all("input", name="uid")] == [task["uid"]]
    assert listed.all("input", name="schedule", value="one")
    assert do("pause") == "one is paused."
    assert open_page.get("/schedules/one").json["paused"] is True
    assert do("resume") == "one goes on."
    assert do("remove") == "The schedule one is removed."
    assert store.schedules.read("one") is None
    assert open_page.post("/ui/schedules/one/pause", headers=OWN).status_code == 404


def test_one_whose_time_zone_this_host_does_not_know_is_shown_and_removed(open_page: FlaskClient, store: Store) -> None:
    put(open_page)
    elsewhere(store, "one")
    for place in ("/ui/schedules", "/ui/schedules/one"):
        answer = open_page.get(place)
        assert answer.status_code == 200 and "is no time zone that this host knows" in answer.text
    said(open_page, open_page.post("/ui/schedules/one/remove", headers=OWN))
    assert store.schedules.read("one") is None


def test_an_orphan_is_shown_as_one_and_removed(open_page: FlaskClient, store: Store) -> None:
    from_the_code(store)
    assert "orphan" in open_page.get("/ui/schedules").text
    assert "stands there no more" in open_page.get("/ui/schedules/tidy").text
    refused = said(open_page, open_page.post("/ui/schedules/tidy/run", headers=OWN))
    assert refused.startswith("Nothing was created")
    open_page.post("/ui/schedules/tidy/remove", headers=OWN)
    assert store.schedules.read("tidy") is None


def test_one_of_the_code_has_no_button_that_removes_it(
    make_app: Callable[..., Web], registry: Any, store: Store
) -> None:
    from tests.web.test_schedules import release, tidy

    from_the_code(store)
    client = make_app(registry=release(tidy, registry)).test_client()
    assert "/ui/schedules/tidy/remove" not in client.get("/ui/schedules/tidy").text
    assert said(client, client.post("/ui/schedules/tidy/remove", headers=OWN)).startswith("Nothing was changed")
    assert store.schedules.read("tidy") is not None


def test_who_may_only_read_sees_no_form_and_a_form_from_elsewhere_is_refused(guarded: Guarded, store: Store) -> None:
    from_the_code(store)
    reader, writer = guarded.somebody("read"), guarded.somebody("write")
    assert '<form method="post" action="/ui/schedules' not in reader.get("/ui/schedules/tidy").text
    assert '<form method="post" action="/ui/schedules' in writer.get("/ui/schedules/tidy").text
    for deed in ("run", "pause", "resume", "remove"):
        place = f"/ui/schedules/tidy/{deed}"
        assert reader.post(place, headers=OWN).status_code == 403
        assert writer.post(place, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert guarded.stranger().post(place, headers=OWN).status_code in (303, 403)
    found = store.schedules.read("tidy")
    assert found is not None and found.schedule is not None and not found.schedule.paused
