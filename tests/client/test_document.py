"""A task's fields are those of the service's document."""

from datetime import UTC, datetime

from sandbox_client import Client
from sandbox_client.document import Document, Field
from sandbox_client.testing import FakeSandbox
from tests.system.instance import Instance

MOMENT = "2026-11-20T23:47:58.120000Z"


def test_each_field_that_the_service_sends_can_be_read(client: Client, running: Instance) -> None:
    _, description = running.call("GET", "/openapi.json")
    fields = {name for name, value in vars(Document).items() if isinstance(value, Field)}
    assert fields == description["components"]["schemas"]["Task"]["properties"].keys()
    task = client.create("echo").wait(timeout=60)
    assert task.document.keys() == fields
    assert {name for name in fields if getattr(task, name) != task.document[name]} == {
        "created_at",
        "started_at",
        "finished_at",
    }


def test_the_fake_sends_the_same_fields(fake: FakeSandbox) -> None:
    fields = {name for name, value in vars(Document).items() if isinstance(value, Field)}
    with fake.client() as sandbox:
        assert sandbox.create("echo").document.keys() == fields


def test_moments_progress_and_errors_are_objects() -> None:
    document = Document(
        {
            "run_at": MOMENT,
            "started_at": None,
            "progress": {"fraction": 0.5, "message": "half"},
            "error": {"type": "Reject", "message": "no", "event_id": None, "later": 1},
        }
    )
    assert document.run_at == datetime(2026, 11, 20, 23, 47, 58, 120_000, UTC)
    assert document.started_at is None
    assert document.progress is not None and document.progress.message == "half"
    assert document.error is not None and (document.error.type, document.error.message) == ("Reject", "no")


def test_a_field_of_a_newer_service_is_in_the_document() -> None:
    assert Document({"uid": "a", "later": [1]}).document["later"] == [1]


def test_a_function_of_the_fake_may_wait_for_another_task() -> None:
    runs: list[str] = []

    def parent() -> str:
        runs.append("parent")
        assert len(runs) < 5
        with fake.client() as sandbox:
            return str(sandbox.create("child").wait(timeout=60).result)

    fake = FakeSandbox({"parent": parent, "child": lambda: "done"})
    with fake.client() as sandbox:
        assert sandbox.create("parent").wait(timeout=60).result == "done"
    assert runs == ["parent"]
