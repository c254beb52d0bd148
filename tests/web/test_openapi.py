"""GET /openapi.json and the tables of the docs say the same as the code."""

import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.tasks.document import PUBLIC
from service.web.api.intake import NewTask
from service.web.api.listing import FILTERS
from tests.web.conftest import ROOT

HTTP, TASKS = ROOT / "docs" / "http.md", ROOT / "docs" / "tasks.md"


@pytest.fixture
def schemas(client: FlaskClient) -> Any:
    return client.get("/openapi.json").json["components"]["schemas"]


def section(page: Path, heading: str) -> str:
    found = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"{page.relative_to(ROOT)} has no section '{heading}'"
    return found[1]


def first_column(text: str) -> list[str]:
    rows = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`(\w+)`", row)]


def check(page: Path, heading: str, described: list[str], fields: tuple[str, ...]) -> None:
    place = f"{page.relative_to(ROOT)}, '{heading}'"
    missing, unknown = set(fields) - set(described), set(described) - set(fields)
    assert not missing, f"{place}: describe {', '.join(sorted(missing))}"
    assert not unknown, f"{place}: there is no field {', '.join(sorted(unknown))}"


def test_the_docs_describe_each_field_of_the_document() -> None:
    check(TASKS, "The document", first_column(section(TASKS, "The document")), PUBLIC)
    text = section(HTTP, "The document").replace('{"message": "hello"}', "{}")
    example = re.findall(r'"(\w+)": ', text)
    check(HTTP, "The document", example, PUBLIC)
    assert example == [*PUBLIC], "docs/http.md, 'The document': keep the order of the fields"


def test_the_docs_describe_each_field_of_a_new_task() -> None:
    check(HTTP, "Creating a task", first_column(section(HTTP, "Creating a task")), NewTask.__struct_fields__)


def test_the_docs_name_each_filter_of_the_list() -> None:
    said = section(HTTP, "The list")
    missing = [name for name in FILTERS if f"`{name}`" not in said]
    assert not missing, f"docs/http.md, 'The list': name the filter {', '.join(missing)}"


def test_a_document_is_described_with_all_fields_that_clients_get(client: FlaskClient, schemas: Any) -> None:
    document = client.post("/tasks", json={"type": "echo"}).json
    assert list(schemas["Task"]["properties"]) == schemas["Task"]["required"] == list(document)


def test_a_new_task_is_described_as_it_is_checked(schemas: Any) -> None:
    described = schemas["NewTask"]
    assert tuple(described["properties"]) == NewTask.__struct_fields__
    assert (described["required"], described["additionalProperties"]) == (["type"], False)
    assert described["properties"]["queue"]["enum"] == ["default", "reports"]
    assert "report.build" in described["properties"]["type"]["enum"]
    assert described["properties"]["max_attempts"] == {"type": "integer", "minimum": 1, "maximum": 1000}


def test_a_cache_may_keep_the_description_for_a_while_but_not_for_who_sent_a_token(client: FlaskClient) -> None:
    """Without `public`, RFC 9111 keeps shared caches from what answers a request with Authorization."""
    assert client.get("/openapi.json").headers["Cache-Control"] == "max-age=60"
    assert "Cache-Control" not in client.get("/types").headers
