"""Task types: which functions can serve, and which arguments they take."""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from inspect import Parameter
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import msgspec
import pytest

from service.errors import InvalidTask, InvalidTaskType
from service.tasks.context import Context
from service.tasks.declare import MARK, TaskType, task
from service.tasks.registry import Registry


def type_of(handler: Callable[..., Any], name: str = "t", **options: Any) -> TaskType:
    marked = task(name, **options)(handler)
    found = getattr(marked, MARK)
    assert isinstance(found, TaskType)
    return found


def raw(args: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(args))


def build(context: Any, month: str, rows: int = 10, *, kind: Literal["pdf", "csv"] = "pdf") -> str:
    """Builds a report."""
    return f"{month} {rows} {kind}"


def test_a_marked_function_is_still_the_function() -> None:
    marked = task("t")(build)
    assert marked is build
    assert marked(None, "May") == "May 10 pdf"


def test_a_handler_gets_its_arguments_and_their_defaults() -> None:
    report = type_of(build)
    assert report.run(None, raw({"month": "May", "rows": 3})) == "May 3 pdf"


def test_a_handler_without_arguments_gets_the_context_alone() -> None:
    assert type_of(lambda context: context).run("context", raw({})) == "context"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({}, "missing required field `month`; t takes month, rows, kind"),
        ({"month": 5}, "Expected `str`, got `int` - at `$.month`"),
        ({"month": "May", "rows": "3"}, "Expected `int`, got `str` - at `$.rows`"),
        ({"month": "May", "rows": 1.5}, "Expected `int`, got `float` - at `$.rows`"),
        ({"month": "May", "kind": "doc"}, "Invalid enum value 'doc' - at `$.kind`"),
        ({"month": "May", "colour": 1}, "unknown field `colour`; t takes month, rows, kind"),
    ],
)
def test_wrong_arguments_are_refused_by_name(args: Any, told: str) -> None:
    with pytest.raises(InvalidTask) as refused:
        type_of(build).check(raw(args))
    assert told in refused.value.detail
    assert refused.value.field == "args"


def test_right_arguments_pass() -> None:
    type_of(build).check(raw({"month": "May", "kind": "csv"}))


def test_annotations_may_be_written_as_text() -> None:
    def handler(context: "Any", count: "int") -> None: ...

    with pytest.raises(InvalidTask, match=r"\$\.count"):
        type_of(handler).check(raw({"count": "x"}))


def test_an_argument_without_annotation_takes_anything() -> None:
    def handler(context, value):  # type: ignore[no-untyped-def]
        return value

    assert type_of(handler).run(None, raw({"value": [1, {"a": None}]})) == [1, {"a": None}]


@dataclass
class Order:
    rows: int = 10


@dataclass(frozen=True)
class Fixed:
    rows: int = 10


@dataclass(eq=False)
class Known:
    rows: int = 10


def no_context() -> None: ...
def forgotten(month: str, rows: int = 10) -> None: ...
def by_keyword(*, context: Any) -> None: ...
def many(context: Any, *rest: int) -> None: ...
def free(context: Any, **options: int) -> None: ...
def by_position(context: Any, first: int, /) -> None: ...
def shared(context: Any, rows: list[int] = []) -> None: ...  # noqa: B006 - what is refused
def shared_too(context: Any, order: Order = Order()) -> None: ...  # noqa: B008 - what is refused
def shared_by_identity(context: Any, order: Known = Known()) -> None: ...  # noqa: B008 - what is refused
def shared_within(context: Any, rows: tuple[list[int], ...] = ([],)) -> None: ...
def no_schema(context: Any, when: complex) -> None: ...
async def later(context: Any) -> None: ...
def stepwise(context: Any) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (no_context, "first parameter is the context"),
        (forgotten, "first parameter is the context, and month looks like an argument"),
        (by_keyword, "first parameter is the context, and context looks like an argument"),
        (many, r"\*rest cannot be checked"),
        (free, r"\*options cannot be checked"),
        (by_position, "first must be allowed as a keyword"),
        (shared, "the default of rows is shared"),
        (shared_too, "the default of order is shared"),
        (shared_by_identity, "the default of order is shared"),
        (shared_within, "the default of rows is shared"),
        (no_schema, "the parameter \\w+ cannot come from JSON: type .* is not supported$"),
        (later, "must be a plain function"),
        (stepwise, "must be a plain function"),
    ],
)
def test_a_function_that_cannot_serve_is_refused(handler: Callable[..., Any], told: str) -> None:
    with pytest.raises(InvalidTaskType, match=told):
        task("t")(handler)


@pytest.mark.parametrize("kind", [Any, object, Context, Context | None, Callable[..., Any], Parameter.empty])
def test_a_context_may_be_annotated_in_many_ways(kind: Any) -> None:
    def handler(context, month: str): ...  # type: ignore[no-untyped-def]

    handler.__annotations__["context"] = kind
    task("t")(handler)


def test_a_default_that_nobody_can_change_is_allowed() -> None:
    def handler(context: Any, order: Fixed = Fixed(), rows: tuple[int, ...] = (1,)) -> None: ...

    task("t")(handler)


def test_a_decorator_without_a_name_says_what_to_write() -> None:
    with pytest.raises(InvalidTaskType, match=r'@task\("build"\)'):
        task(build)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a:b", "a/b", "ü", "a" * 101, "a\n"])
def test_a_name_that_cannot_be_a_type_is_refused(name: str) -> None:
    with pytest.raises(InvalidTaskType, match="cannot name a task type"):
        task(name)(build)


@pytest.mark.parametrize(
    "options",
    [
        *[{"max_attempts": each} for each in (0, 1e3, True, None, "3")],
        *[{"timeout": each} for each in (0, -1.0, math.nan, math.inf, True, "5", Decimal(5))],
    ],
)
def test_limits_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidTaskType, match="max_attempts is a whole number from 1 on, timeout None or seconds"):
        type_of(build, **options)


def test_a_type_describes_itself() -> None:
    described = type_of(build, "report.build", queue="reports", max_attempts=5, timeout=120).describe()

    schema = described.pop("args")
    assert described == {
        "type": "report.build",
        "description": "Builds a report.",
        "queue": "reports",
        "max_attempts": 5,
        "timeout": 120,
        "secret": [],
        "process": False,
        "limits": [],
        "unique": None,
        "priority": "normal",
    }
    assert schema["required"] == ["month"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["rows"] == {"type": "integer", "default": 10}


class Place(msgspec.Struct):
    city: str


def test_a_schema_carries_what_it_refers_to() -> None:
    def visit(context: Any, place: Place) -> None: ...

    schema = type_of(visit).describe()["args"]
    assert schema["properties"]["place"]["$ref"].startswith("#/$defs/")
    assert list(schema["$defs"]) == ["Place"]


# --- the registry ------------------------------------------------------------------------------------


def test_types_come_in_the_order_of_their_names() -> None:
    registry = Registry([type_of(lambda context: 1, "b"), type_of(lambda context: 2, "a")])
    assert [found.name for found in registry] == ["a", "b"]
    assert registry.get("a") is not None
    assert registry.get("c") is None


def test_two_handlers_of_one_type_are_refused() -> None:
    def other(context: Any) -> None: ...

    with pytest.raises(InvalidTaskType, match=r"two handlers serve t: .*build and .*other"):
        Registry([type_of(build), type_of(other)])


def test_one_handler_may_be_met_twice() -> None:
    Registry([type_of(build), type_of(build)])


@pytest.fixture
def module() -> Iterator[ModuleType]:
    made = ModuleType("tasks_of_a_test")
    exec(
        "from service import task\n@task('mine')\ndef mine(context, a: int): return a\ndef not_mine(context): ...\n",
        made.__dict__,
    )
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


def test_a_modules_marked_functions_are_its_types(module: ModuleType) -> None:
    assert [found.name for found in Registry.load([module.__name__])] == ["mine"]


def test_a_module_may_hold_what_raises_when_it_is_looked_at(module: ModuleType) -> None:
    exec("from flask import current_app", module.__dict__)
    assert [found.name for found in Registry.load([module.__name__])] == ["mine"]


def test_a_marked_function_may_stand_behind_a_proxy(module: ModuleType) -> None:
    module.__dict__["mine"] = Proxy(module.__dict__["mine"])
    assert [found.name for found in Registry.load([module.__name__])] == ["mine"]


class Proxy:
    """As some libraries of decorators make them."""

    def __init__(self, wrapped: object) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Installs a package whose entry point names what it is told."""

    def install(target: str) -> None:
        metadata = tmp_path / "offers-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: offers\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[sandbox.tasks]\noffer = {target}\n")
        monkeypatch.syspath_prepend(str(tmp_path))

    return install


@pytest.mark.parametrize("target", ["tasks_of_a_test", "tasks_of_a_test:mine"])
def test_an_installed_package_offers_types(installed: Callable[[str], None], module: ModuleType, target: str) -> None:
    installed(target)
    assert Registry.load([]).get("mine") is not None


def test_an_entry_point_that_offers_none_is_refused(installed: Callable[[str], None], module: ModuleType) -> None:
    installed("tasks_of_a_test:not_mine")
    with pytest.raises(InvalidTaskType, match="the entry point offer is neither a module nor a task type"):
        Registry.load([])


def test_a_type_names_its_limits() -> None:
    assert type_of(build, "report.build", limits="partner").limits == ("partner",)
    assert type_of(build, "report.build", limits=("b", "a", "b")).limits == ("a", "b")
    with pytest.raises(InvalidTaskType, match="'per customer' cannot name a limit"):
        type_of(build, "report.build", limits=("per customer",))


def test_only_an_argument_can_be_secret() -> None:
    assert type_of(build, "report.build", secret="month").secret == ("month",)
    with pytest.raises(InvalidTaskType, match="secret names 'year', and the handler has no such argument"):
        type_of(build, "report.build", secret=("month", "year"))


def test_a_type_may_have_a_priority_and_no_made_up_one() -> None:
    assert type_of(build, "report.build", priority="high").describe()["priority"] == "high"
    with pytest.raises(InvalidTaskType, match=r"report.build: priority is 'urgent'; allowed are high, normal, low"):
        type_of(build, "report.build", priority="urgent")
