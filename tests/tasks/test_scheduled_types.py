"""`@task(…, schedule=…)`."""

from typing import Any

import pytest

from service import task
from service.errors import InvalidTaskType
from service.tasks.declare import marked_type
from service.tasks.schedule import Terms


def declared(plan: Any, **options: Any) -> Terms | None:
    @task("report.nightly", schedule=plan, **options)
    def nightly(context: Any, rows: int = 10) -> None: ...

    found = marked_type(nightly)
    assert found is not None
    return found.schedule


def test_a_type_may_have_a_schedule() -> None:
    assert declared(None) is None
    assert declared("0 3 * * *") == Terms(type="report.nightly", cron="0 3 * * *")
    assert declared("@daily", timezone="Europe/Prague") == Terms(
        type="report.nightly", cron="@daily", timezone="Europe/Prague"
    )
    assert declared(90) == Terms(type="report.nightly", every=90.0)
    plan = declared({"every": 60, "overlap": "queue", "catch_up": 5, "args": {"rows": 3}})
    assert plan is not None
    assert (plan.every, plan.overlap, plan.catch_up, bytes(plan.args)) == (60.0, "queue", 5.0, b'{"rows":3}')


@pytest.mark.parametrize(
    ("plan", "options", "says"),
    [
        ("0 0 3 * * *", {}, "6 fields"),
        ("0 3 * * *", {"timezone": "Nowhere"}, "Nowhere"),
        (None, {"timezone": "Europe/Prague"}, "it has none"),
        (60, {"timezone": "Europe/Prague"}, "timezone"),
        ({"every": 60, "queue": "reports"}, {}, "no queue of its own"),
        ({"every": 60, "paused": True, "type": "x"}, {}, "no paused, type of its own"),
        ({"every": 60, "evry": 60}, {}, "evry"),
        ({"every": "often"}, {}, "every"),
        ({"every": 60, "overlap": "perhaps"}, {}, "overlap"),
        ({"every": 60, "args": {"rows": "many"}}, {}, "rows"),
        ({"every": 60, "args": {"columns": 5}}, {}, "columns"),
        ({}, {}, "either"),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused_when_the_module_is_loaded(
    plan: Any, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidTaskType, match=says) as refused:
        declared(plan, **options)
    assert "report.nightly" in str(refused.value)


def test_a_handler_that_needs_arguments_gets_them_from_its_schedule() -> None:
    with pytest.raises(InvalidTaskType, match="month"):

        @task("report.monthly", schedule="@monthly")
        def monthly(context: Any, month: str) -> None: ...
