"""The calls below /limits, and where the tasks that they bound lie."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.observe.audit import AuditLog
from service.store import SCRIPTS, Store
from service.store.connection import connect
from service.store.connection.cluster import ClusterWire
from service.store.keys import Partitions
from service.web import token_file
from service.web.app import Web
from service.web.auth import Tokens
from tests.servers import RedisCluster

NOT_SET = {
    "limit": "partner", "set": False, "key": None, "concurrency": None, "rate": None, "burst": None, "overrides": {},
    "waiting": 0, "keys": 0, "types": ["bounded.twice"],
}  # fmt: skip


def create(client: FlaskClient, customer: str = "acme", type: str = "bounded", **headers: str) -> dict[str, Any]:
    answer = client.post("/tasks", json={"type": type, "args": {"customer": customer}}, headers=headers)
    assert answer.status_code in (200, 201), answer.json
    return answer.json  # type: ignore[no-any-return]


def test_a_limit_is_set_read_listed_and_removed(client: FlaskClient) -> None:
    said = {"key": "args.customer", "concurrency": 1, "overrides": {"big": {"concurrency": 9, "rate": "5/second"}}}
    answer = client.put("/limits/per-customer", json=said)
    assert answer.status_code == 201
    assert answer.json["overrides"] == {"big": {"concurrency": 9, "rate": "5/second"}}
    assert (answer.json["set"], answer.json["types"]) == (True, ["bounded", "bounded.twice"])
    assert client.put("/limits/per-customer", json={"rate": "100/minute", "burst": 3}).status_code == 200

    found = client.get("/limits/per-customer").json
    assert (found["key"], found["concurrency"], found["rate"], found["burst"]) == (None, None, "100/minute", 3)
    assert client.get("/limits").json["limits"] == [NOT_SET, found]

    removed = client.delete("/limits/per-customer")
    assert (removed.status_code, removed.json["set"], removed.json["rate"]) == (200, False, None)
    assert client.delete("/limits/per-customer").status_code == 404
    assert client.get("/limits/per-customer").json["set"] is False  # types name it
    assert client.get("/limits/nothing").status_code == 404


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({}, "concurrency"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 1, "burst": 2}, "burst"),
        ({"rate": "fast"}, "rate"),
        ({"rate": "0/minute"}, "rate"),
        ({"rate": "1/minute\n"}, "rate"),
        ({"concurrency": 1, "key": "args.customer\n"}, "key"),
        ({"concurrency": 1, "key": "args" + ".a" * 300}, "key"),
        ({"key": "args.customer", "concurrency": 1, "overrides": {"a": {"rate": "1/minute\n"}}}, "overrides"),
        ({"concurrency": 1, "key": "customer"}, "key"),
        ({"concurrency": 1, "overrides": {"a": {"concurrency": 1}}}, "overrides"),
        ({"concurrency": 1, "key": "args.customer", "overrides": {"a": {}}}, "concurrency"),
        ({"concurrency": 1, "most": 1}, "most"),
    ],
)
def test_a_wrong_limit_is_refused_with_the_field(client: FlaskClient, rule: Any, field: str) -> None:
    answer = client.put("/limits/per-customer", json=rule)
    assert (answer.status_code, answer.json.get("field")) == (422, field)
    assert client.get("/limits/per-customer").json["set"] is False


def test_a_wrong_name_is_refused(client: FlaskClient) -> None:
    assert client.put("/limits/per:customer", json={"concurrency": 1}).status_code == 422


def test_a_document_says_at_which_limit_its_task_waits(client: FlaskClient) -> None:
    client.put("/limits/per-customer", json={"key": "args.customer", "concurrency": 1})
    first, second, other = create(client), create(client), create(client, "other")

    assert [client.get(f"/tasks/{task['uid']}").json["blocked_by"] for task in (first, second, other)] == [
        None, "per-customer", None,
    ]  # fmt: skip
    listed = {task["uid"]: task["blocked_by"] for task in client.get("/tasks").json["tasks"]}
    assert listed[second["uid"]] == "per-customer"
    limit = client.get("/limits/per-customer").json
    assert (limit["waiting"], limit["keys"]) == (1, 1)
    assert 'sandbox_limit_waiting{limit="per-customer"} 1' in client.get("/metrics").text

    client.delete(f"/tasks/{first['uid']}")
    assert client.get(f"/tasks/{second['uid']}").json["blocked_by"] is None


def test_removing_a_limit_lets_all_in(client: FlaskClient, store: Store) -> None:
    client.put("/limits/per-customer", json={"concurrency": 1})
    uids = [create(client)["uid"] for _ in range(5)]
    client.delete("/limits/per-customer")
    assert [entry.uid for entry in store.queues.fetch(0, ["default"], "a", 10)] == uids


def test_a_limit_needs_the_scope_write_and_leaves_a_line_in_the_audit_log(
    make_app: Callable[..., Web], tmp_path: Path
) -> None:
    secrets = {scope: token_file.add(tmp_path / "tokens", scope, scope) for scope in ("read", "write")}
    client = make_app(tokens=Tokens(tmp_path / "tokens"), audit=AuditLog(tmp_path, "web")).test_client()
    reads, writes = ({"Authorization": f"Bearer {secrets[scope]}"} for scope in ("read", "write"))
    assert client.put("/limits/partner", json={"concurrency": 1}, headers=reads).status_code == 403
    assert client.put("/limits/partner", json={"concurrency": 1}, headers=writes).status_code == 201
    assert client.delete("/limits/partner", headers=writes).status_code == 200
    assert client.get("/limits", headers=reads).json["limits"][0] == NOT_SET
    told = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert [(line["did"], line["limit"], line["by"]) for line in told] == [
        ("limited", "partner", "write"), ("unlimited", "partner", "write"),
    ]  # fmt: skip


# --- on a cluster --------------------------------------------------------------------------------------


@pytest.fixture
def spread(cluster: RedisCluster, make_app: Callable[..., Web]) -> Iterator[FlaskClient]:
    """Three nodes, four partitions."""
    store = Store(connect(cluster.url, SCRIPTS), partitions=4)
    yield make_app(store=store).test_client()
    store.close()


def home(uid: str) -> int | None:
    return Partitions(4).of(uid)


def test_all_tasks_of_a_key_lie_in_one_partition(spread: FlaskClient) -> None:
    spread.put("/limits/per-customer", json={"key": "args.customer", "concurrency": 1})
    homes = {name: {home(create(spread, name)["uid"]) for _ in range(6)} for name in map(str, range(12))}
    assert all(len(each) == 1 for each in homes.values())
    assert len(set.union(*homes.values())) > 1
    assert spread.get("/limits/per-customer").json["waiting"] == 60


def test_without_a_key_all_tasks_of_its_types_lie_in_one_partition(spread: FlaskClient) -> None:
    spread.put("/limits/per-customer", json={"concurrency": 1})
    assert len({home(create(spread, str(number))["uid"]) for number in range(12)}) == 1


def test_limits_of_one_type_that_would_lie_apart_are_refused(spread: FlaskClient, client: FlaskClient) -> None:
    assert spread.put("/limits/per-customer", json={"key": "args.customer", "concurrency": 1}).status_code == 201
    answer = spread.put("/limits/partner", json={"key": "args.partner", "concurrency": 1})
    assert (
        answer.status_code == 409 and "bounded.twice has limits that count by different keys" in answer.json["detail"]
    )
    assert spread.put("/limits/partner", json={"key": "args.customer", "rate": "1/second"}).status_code == 201
    create(spread, type="bounded.twice")
    for name, key in (("per-customer", "args.customer"), ("partner", "args.partner")):  # on one partition they may
        assert client.put(f"/limits/{name}", json={"key": key, "concurrency": 1}).status_code == 201
    create(client, type="bounded.twice")


def test_a_batch_of_keys_that_lie_apart_is_refused_in_words(spread: FlaskClient) -> None:
    spread.put("/limits/per-customer", json={"key": "args.customer", "concurrency": 1})
    batch = [{"type": "bounded", "args": {"customer": str(number)}} for number in range(12)]
    refused = spread.post("/tasks/batch", json=batch)
    assert refused.status_code == 422 and "another partition" in refused.json["detail"]
    same = [{"type": "bounded", "args": {"customer": "1"}}] * 3 + [{"type": "echo"}]
    made = spread.post("/tasks/batch", json=same)
    assert made.status_code == 201 and len({home(task["uid"]) for task in made.json["tasks"]}) == 1


def test_a_key_that_was_sent_before_finds_its_task_though_the_limit_is_new(spread: FlaskClient) -> None:
    sent = {f"key-{number}": create(spread, **{"Idempotency-Key": f"key-{number}"})["uid"] for number in range(8)}
    spread.put("/limits/per-customer", json={"key": "args.customer", "concurrency": 1})
    again = {key: create(spread, **{"Idempotency-Key": key})["uid"] for key in sent}
    assert again == sent


def test_a_batch_that_was_sent_before_is_found_though_its_first_task_has_no_limit(spread: FlaskClient) -> None:
    batch = [{"type": "echo"}, {"type": "bounded", "args": {"customer": "1"}}]
    for number in range(8):
        headers = {"Idempotency-Key": f"key-{number}"}
        spread.put("/limits/per-customer", json={"key": "args.customer", "concurrency": 1})
        before = spread.post("/tasks/batch", json=batch, headers=headers)
        spread.delete("/limits/per-customer")
        again = spread.post("/tasks/batch", json=batch, headers=headers)
        assert again.status_code == 200, again.json
        assert [task["uid"] for task in again.json["tasks"]] == [task["uid"] for task in before.json["tasks"]]


def test_a_batch_with_a_key_is_looked_for_once_in_each_partition(
    spread: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not by each of its tasks."""
    asked: list[int] = []
    call = ClusterWire.call

    def counted(wire: ClusterWire, partition: int, *commands: Any, **named: Any) -> Any:
        asked.append(partition)
        return call(wire, partition, *commands, **named)

    batch = [{"type": "bounded", "args": {"customer": "1"}}] * 100
    before = spread.post("/tasks/batch", json=batch, headers={"Idempotency-Key": "k"}).json["tasks"]
    spread.put("/limits/per-customer", json={"key": "args.customer", "concurrency": 1})
    monkeypatch.setattr(ClusterWire, "call", counted)
    again = spread.post("/tasks/batch", json=batch, headers={"Idempotency-Key": "k"})
    assert (again.status_code, [task["uid"] for task in again.json["tasks"]]) == (200, [task["uid"] for task in before])
    spread.post("/tasks/batch", json=batch, headers={"Idempotency-Key": "another"})
    assert len(asked) < 50
