"""The calls below /schedules."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient

from service.observe.audit import AuditLog
from service.store import Store
from service.tasks import schedule
from service.tasks.declare import marked_type, task
from service.tasks.registry import Registry
from service.tasks.schedule import CODE, Schedule, Terms
from service.web import token_file
from service.web.app import Web
from service.web.auth import Tokens

NIGHTLY = {"type": "echo", "cron": "0 3 * * *", "timezone": "Europe/Prague"}


@task("tidy", schedule="@hourly")
def tidy(context: Any) -> None:
    """Stands in the code with its schedule."""


@task("tidy")
def tidy_by_hand(context: Any) -> None:
    """The same type, in another release."""


def release(handler: Any, registry: Registry) -> Registry:
    found = marked_type(handler)
    assert found is not None
    return Registry([*registry, found])


def from_the_code(store: Store, name: str = "tidy") -> None:
    """As a runner brings it."""

    def as_in_the_code(before: Schedule | None, now: int) -> Schedule:
        plan = Terms(type=name, cron="@hourly")
        return schedule.put(before, name, plan, paused=False, source=CODE, now=now, by=None)

    store.schedules.change(name, as_in_the_code)


def test_a_schedule_is_made_read_listed_and_removed(client: FlaskClient) -> None:
    answer = client.put("/schedules/report.nightly", json=NIGHTLY | {"args": {"message": "good night"}})
    made = answer.json
    assert (answer.status_code, made["name"], made["type"]) == (201, "report.nightly", "echo")
    assert (made["args"], made["queue"], made["words"]) == (
        {"message": "good night"}, "default", "At 03:00 every day, Europe/Prague",
    )  # fmt: skip
    assert len(made["next"]) == 5 and made["next"] == sorted(made["next"])
    assert {time[13:] for time in made["next"]} == {":00:00.000000Z"}
    assert (made["source"], made["orphan"], made["last"], made["fired"]) == ("api", False, None, 0)

    assert client.get("/schedules/report.nightly").json == made
    assert client.get("/schedules").json == {"schedules": [made]}
    removed = client.delete("/schedules/report.nightly")
    assert (removed.status_code, removed.json) == (200, made)
    assert client.get("/schedules/report.nightly").status_code == 404
    assert client.get("/schedules").json == {"schedules": []}


def test_to_put_it_again_changes_what_is_there(client: FlaskClient) -> None:
    made = client.put("/schedules/one", json=NIGHTLY).json
    again = client.put("/schedules/one", json=NIGHTLY)
    assert (again.status_code, again.json) == (200, made)
    changed = client.put("/schedules/one", json={"type": "sleep", "every": 90, "overlap": "queue"}).json
    assert (changed["cron"], changed["every"], changed["words"]) == (None, 90.0, "Every 90 seconds")
    assert (changed["created_at"], changed["overlap"]) == (made["created_at"], "queue")


def test_a_schedule_is_paused_and_resumed(client: FlaskClient) -> None:
    client.put("/schedules/one", json=NIGHTLY)
    paused = client.post("/schedules/one/pause").json
    assert (paused["paused"], paused["next"]) == (True, [])
    assert client.post("/schedules/one/pause").json == paused
    resumed = client.post("/schedules/one/resume").json
    assert (resumed["paused"], len(resumed["next"])) == (False, 5)
    assert client.put("/schedules/two", json=NIGHTLY | {"paused": True}).json["paused"] is True


def test_to_run_it_creates_a_task_for_now_beside_its_times(client: FlaskClient) -> None:
    before = client.put("/schedules/one", json=NIGHTLY | {"args": {"message": "now"}, "queue": "reports"}).json
    answer = client.post("/schedules/one/run")
    made = answer.json
    assert (answer.status_code, answer.headers["Location"]) == (201, f"/tasks/{made['uid']}")
    assert (made["type"], made["queue"], made["args"], made["status"]) == (
        "echo", "reports", {"message": "now"}, "queued",
    )  # fmt: skip
    assert (made["schedule"], made["scheduled_for"]) == ("one", None)
    assert client.get("/schedules/one").json == before


def test_to_run_it_twice_with_the_same_key_creates_one_task(client: FlaskClient) -> None:
    for name in ("one", "two"):
        client.put(f"/schedules/{name}", json=NIGHTLY)
    headers = {"Idempotency-Key": "k"}
    first, again = (client.post("/schedules/one/run", headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code, again.json["uid"]) == (201, 200, first.json["uid"])
    assert client.post("/schedules/two/run", headers=headers).status_code == 422


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"type": "echo"}, "cron"),
        ({"type": "ehco", "cron": "@daily"}, "type"),
        ({"cron": "@daily"}, "type"),
        ({"type": "echo", "cron": "@daily", "every": 5}, "cron"),
        ({"type": "echo", "cron": "0 0 3 * * *"}, "cron"),
        ({"type": "echo", "cron": "@daily", "timezone": "Mars"}, "timezone"),
        ({"type": "echo", "every": 0}, "every"),
        ({"type": "echo", "every": "often"}, "every"),
        ({"type": "echo", "every": 5, "queue": "nowhere"}, "queue"),
        ({"type": "echo", "every": 5, "args": {"massage": 1}}, "args"),
        ({"type": "report.build", "every": 5}, "args"),
        ({"type": "echo", "every": 5, "overlap": "maybe"}, "overlap"),
        ({"type": "echo", "every": 5, "catch_up": -1}, "catch_up"),
        ({"type": "echo", "every": 5, "jitter": 1e9}, "jitter"),
        ({"type": "echo", "every": 5, "cronn": ""}, "cronn"),
    ],
)
def test_a_wrong_schedule_is_refused_with_the_field(client: FlaskClient, body: Any, field: str) -> None:
    answer = client.put("/schedules/one", json=body)
    assert (answer.status_code, answer.json.get("field")) == (422, field), answer.json
    assert client.get("/schedules").json == {"schedules": []}


@pytest.mark.parametrize("name", ["a b", "x" * 101, "a:b", ".x", "%7B0%7D"])
def test_a_name_that_cannot_be_one_is_refused(client: FlaskClient, name: str) -> None:
    assert client.put(f"/schedules/{name}", json=NIGHTLY).status_code == 422


def test_what_is_not_there_is_not_found(client: FlaskClient) -> None:
    answers = [client.get("/schedules/one"), client.delete("/schedules/one")]
    answers += [client.post(f"/schedules/one/{deed}") for deed in ("run", "pause", "resume")]
    for answer in answers:
        assert (answer.status_code, answer.content_type) == (404, "application/problem+json")


# --- beside the code ------------------------------------------------------------------------------


def test_one_of_the_code_can_be_paused_and_run_and_is_changed_in_the_code_only(
    make_app: Callable[..., Web], registry: Registry, store: Store
) -> None:
    from_the_code(store)
    client = make_app(registry=release(tidy, registry)).test_client()
    client.put("/schedules/one", json=NIGHTLY)
    one, theirs = client.get("/schedules").json["schedules"]
    assert [(each["name"], each["source"], each["orphan"]) for each in (one, theirs)] == [
        ("one", "api", False), ("tidy", "code", False),
    ]  # fmt: skip
    assert client.post("/schedules/tidy/pause").json["paused"] is True
    assert client.post("/schedules/tidy/run").status_code == 201
    assert client.put("/schedules/tidy", json={"type": "tidy", "every": 5}).status_code == 409
    assert client.delete("/schedules/tidy").status_code == 409


def test_a_name_of_the_code_is_taken_while_no_runner_has_brought_its_schedule(
    make_app: Callable[..., Web], registry: Registry
) -> None:
    before = make_app().test_client()
    assert before.put("/schedules/tidy", json=NIGHTLY).status_code == 201
    client = make_app(registry=release(tidy, registry)).test_client()
    assert client.put("/schedules/tidy", json=NIGHTLY | {"cron": "0 4 * * *"}).status_code == 200, "it was the client's"
    assert client.delete("/schedules/tidy").status_code == 200
    refused = client.put("/schedules/tidy", json=NIGHTLY)
    assert refused.status_code == 409 and "stands in the code" in refused.json["detail"]


def test_one_that_has_left_the_code_is_shown_as_an_orphan_until_it_is_removed(
    make_app: Callable[..., Web], registry: Registry, store: Store
) -> None:
    from_the_code(store)
    for client in (make_app(registry=release(tidy_by_hand, registry)).test_client(), make_app().test_client()):
        assert client.get("/schedules/tidy").json["orphan"] is True
    assert client.post("/schedules/tidy/run").status_code == 422  # this release does not know the type
    assert client.delete("/schedules/tidy").status_code == 200
    assert client.get("/schedules").json == {"schedules": []}


def test_one_that_cannot_be_read_is_left_out_of_the_list_and_can_be_removed(client: FlaskClient, store: Store) -> None:
    client.put("/schedules/one", json=NIGHTLY)
    store._wire.call(0, ("SET", "sandbox:{0}:schedule:one", "nonsense"))
    assert client.get("/schedules").json == {"schedules": []}
    assert client.get("/schedules/one").status_code == 409
    assert (client.delete("/schedules/one").status_code, store.schedules.read("one")) == (204, None)


# --- who may ---------------------------------------------------------------------------------------


def test_who_may_only_read_sees_schedules_without_secrets_and_changes_none(
    make_app: Callable[..., Web], tmp_path: Path
) -> None:
    secrets = {scope: token_file.add(tmp_path / "tokens", scope, scope) for scope in ("read", "write")}
    client = make_app(tokens=Tokens(tmp_path / "tokens"), audit=AuditLog(tmp_path, "web")).test_client()
    reads, writes = ({"Authorization": f"Bearer {secrets[scope]}"} for scope in ("read", "write"))
    body = {"type": "account.open", "every": 60, "args": {"name": "eve", "password": "swordfish"}}

    assert client.put("/schedules/one", headers=reads, json=body).status_code == 403
    made = client.put("/schedules/one", headers=writes, json=body).json
    assert (made["args"]["password"], made["changed_by"]) == ("swordfish", "write")
    assert client.get("/schedules/one", headers=writes).json["args"]["password"] == "swordfish"
    assert client.get("/schedules/one", headers=reads).json["args"] == {"name": "eve", "password": "[hidden]"}
    assert "swordfish" not in client.get("/schedules", headers=writes).text
    for deed in ("run", "pause", "resume"):
        assert client.post(f"/schedules/one/{deed}", headers=reads).status_code == 403
    assert client.delete("/schedules/one", headers=reads).status_code == 403
    for deed in ("pause", "resume", "run"):
        client.post(f"/schedules/one/{deed}", headers=writes)
    client.delete("/schedules/one", headers=writes)

    lines = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert [line["did"] for line in lines] == ["scheduled", "paused", "resumed", "created", "unscheduled"]
    assert {line.get("schedule") for line in lines if line["did"] != "created"} == {"one"}
    assert {line["by"] for line in lines} == {"write"}


def elsewhere(store: Store, name: str) -> None:
    """As a host has made it that knows more time zones."""
    found = store.schedules.read(name)
    assert found is not None and found.schedule is not None
    there = msgspec.structs.replace(found.schedule, timezone="Mars/Olympus")
    assert store.schedules.replace(name, found.text, there, store.schedules.now())


def test_one_whose_time_zone_this_host_does_not_know_is_shown_and_removed(client: FlaskClient, store: Store) -> None:
    for name in ("one", "two"):
        client.put(f"/schedules/{name}", json=NIGHTLY)
    elsewhere(store, "one")
    one, two = client.get("/schedules").json["schedules"]
    assert one["words"].startswith("timezone: 'Mars/Olympus' is no time zone that this host knows")
    assert (one["timezone"], one["next"], len(two["next"])) == ("Mars/Olympus", [], 5)
    assert client.get("/schedules/one").json == one
    assert client.post("/schedules/one/run").status_code == 201
    assert client.post("/schedules/one/pause").json["paused"] is True
    assert client.post("/schedules/one/resume").status_code == 422
    assert client.delete("/schedules/one").json["words"] == one["words"]
    assert client.get("/schedules").json == {"schedules": [two]}


def test_what_a_schedule_has_created_is_listed(client: FlaskClient) -> None:
    for name in ("one", "two"):
        client.put(f"/schedules/{name}", json=NIGHTLY)
    runs = [client.post(f"/schedules/{name}/run").json["uid"] for name in ("one", "two", "one")]
    client.post("/tasks", json={"type": "echo"})

    def listed(query: str) -> list[str]:
        return [task["uid"] for task in client.get(f"/tasks?{query}").json["tasks"]]

    assert listed("schedule=one") == [runs[2], runs[0]]
    assert listed("schedule=one&type=sleep") == listed("schedule=on") == []
    counted = client.post("/tasks/cancel", json={"schedule": "two", "dry_run": True})
    assert counted.json == {"matched": 1, "more": False}
