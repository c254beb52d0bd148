"""What a filter admits, and pages of it: several filters at once, on one server and on a cluster."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from service.store import Filter, Position, Store
from service.store import index as the_index
from service.store.selection import argument
from service.tasks import transitions
from service.tasks.document import FAILED, SCHEDULED, Task, TaskError
from tests.servers import RedisServer
from tests.store.test_store import NOW, at, finished, stored


def pages(store: Store, only: Filter, limit: int = 3) -> list[list[str]]:
    found: list[list[str]] = []
    position: Position | None = None
    while True:
        page, position = store.index.page(limit=limit, after=position, only=only)
        found.append([task.uid for task in page])
        if position is None:
            return found


def found(store: Store, limit: int = 3, **only: Any) -> list[str]:
    return sum(pages(store, Filter(**only), limit), [])


def uids(tasks: Sequence[Task]) -> list[str]:
    return [task.uid for task in sorted(tasks, key=lambda task: (task.created_at, task.uid), reverse=True)]


def various(store: Store) -> list[Task]:
    made = []
    for number in range(40):
        fields = {
            "type": "abcd"[number % 4],
            "queue": "xyz"[number % 3],
            "created_by": "kl"[number % 2],
            "schedule": "nightly" if number % 7 == 3 else None,
        }
        error = TaskError(type=("KeyError", "OSError")[number % 2], message="") if number % 5 == 0 else None
        args = msgspec.Raw(b'{"month": "M%d", "deep": {"n": %d}}' % (number % 6, number))
        made.append(stored(store, at=at(number // 2), args=args, error=error, **fields))
    return made


def test_who_looks_for_an_error_reads_nothing_that_has_succeeded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = stored(store, at=at(0), error=TaskError(type="KeyError", message=""))
    for number in range(300):
        other = stored(store, at=at(1 + number))
        store.change(other.uid, lambda task: transitions.succeeded(task, msgspec.Raw(b"1"), NOW, NOW, 0.1))
    monkeypatch.setattr(the_index, "PAGE_SECONDS", 0)
    page, position = store.index.page(limit=10, only=Filter(error="KeyError"))
    assert (uids(page), position) == ([failed.uid], None)


def test_of_several_types_queues_and_statuses_a_task_has_one_of_each(partitioned: Store) -> None:
    made = various(partitioned)
    gone = [finished(partitioned, at=at(50 + number), type="a", queue="x") for number in range(3)]
    assert found(partitioned, type=("a", "b"), queue=("x", "z")) == uids(
        [task for task in [*made, *gone] if task.type in "ab" and task.queue in "xz"]
    )
    assert found(partitioned, status=("cancelled", "failed"), type=("a", "c")) == uids(gone)
    assert found(partitioned, status=("cancelled", "queued"), type=("d",)) == uids(
        [task for task in made if task.type == "d"]
    )


def test_a_page_of_large_documents_ends_early(store: Store) -> None:
    large = msgspec.Raw(b'{"text": "%s"}' % (b"x" * 200_000))
    made = [stored(store, at=at(number), args=large) for number in range(45)]
    found = pages(store, Filter(), limit=100)
    assert sum(found, []) == uids(made)
    assert max(map(len, found)) <= the_index.PAGE_BYTES // 200_000 + 1


def test_a_name_that_is_a_part_of_another_is_not_that_one(store: Store) -> None:
    stored(store, type="report.build")
    assert found(store, type=("report",)) == found(store, type=("build", "report.")) == []


def test_it_is_created_after_a_moment_or_at_it_and_before_another(partitioned: Store) -> None:
    made = various(partitioned)
    only = {"created_after": at(5), "created_before": at(9)}
    assert found(partitioned, **only) == uids([task for task in made if at(5) <= task.created_at < at(9)])
    assert found(partitioned, **only, type=("a",), created_by="k") == uids(
        [task for task in made if at(5) <= task.created_at < at(9) and task.type == "a" and task.created_by == "k"]
    )
    assert found(partitioned, created_after=at(9), created_before=at(5)) == []


def test_what_only_documents_know(partitioned: Store) -> None:
    made = various(partitioned)
    assert found(partitioned, error="KeyError") == uids(
        [task for task in made if task.error and task.created_by == "k"]
    )
    assert found(partitioned, q="args.month=M3", created_by="l") == uids(made[3::6])
    assert found(partitioned, schedule="nightly") == uids(made[3::7])
    assert found(partitioned, schedule="nightly", type=("b",)) == uids(made[17::28])
    assert found(partitioned, q="args.deep.n=7") == [made[7].uid]
    assert found(partitioned, q="args.deep=7") == found(partitioned, q="args.month.x=M3") == []


def test_a_uid_is_found_by_its_beginning_within_what_the_other_filters_leave(partitioned: Store) -> None:
    made = various(partitioned)
    for task in made[::7]:
        for length in (8, 20, 64):
            assert found(partitioned, q=task.uid[:length]) == [task.uid]
        assert found(partitioned, q=task.uid[:8], type=(task.type,)) == [task.uid]
        assert found(partitioned, q=task.uid[:8], type=("other",)) == []


def test_a_search_stops_after_a_while_and_says_where(partitioned: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left out, and nothing is found twice, wherever it stops in each partition."""
    monkeypatch.setattr(the_index, "LOOKS", 3)
    monkeypatch.setattr(the_index, "PAGE_SECONDS", 0.0)
    made = various(partitioned)
    wanted = made[4]
    seen = pages(partitioned, Filter(q=wanted.uid[:8]))
    assert sum(seen, []) == [wanted.uid]
    assert len(seen) >= 40 / (3 * 4) and [] in seen
    assert found(partitioned) == uids(made)


def test_a_filter_on_documents_stops_after_a_while_and_says_where(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(the_index, "PAGE_SECONDS", 0.0)
    made = [stored(store, at=at(number), created_by="k") for number in range(250)]
    wanted = stored(store, at=at(0), created_by="l")
    seen = pages(store, Filter(created_by="l"))
    assert sum(seen, []) == [wanted.uid] and len(seen) == 13  # of 20 documents each
    assert found(store, limit=100) == uids([*made, wanted])


def test_what_cannot_be_read_is_shown_as_such_where_its_shelf_says_enough(store: Store, server: RedisServer) -> None:
    broken = stored(store, type="a")
    fine = stored(store, type="a")
    with server.client() as raw:
        raw.set(broken.uid, b"{")
    page, _ = store.index.page(limit=5, only=Filter(type=("a", "b"), created_after=at(0)))
    assert [(task.uid, task.status) for task in page] == [(fine.uid, "queued"), (broken.uid, "unreadable")]
    assert found(store, q=broken.uid[:8]) == found(store, status=("failed", "unreadable")) == [broken.uid]
    assert found(store, q="args.x=1") == found(store, created_by="k") == []


def test_counting_costs_a_look_at_each_shelf(partitioned: Store) -> None:
    made = various(partitioned)
    count = partitioned.index.count
    assert count(Filter()) == 40
    assert count(Filter(), but=("a", "b")) == 20
    assert count(Filter(type=("a", "d"), queue=("x",))) == len(
        [task for task in made if task.type in "ad" and task.queue == "x"]
    )
    only = Filter(created_after=at(5), created_before=at(9), status=("queued", "failed"))
    assert count(only) == len([task for task in made if at(5) <= task.created_at < at(9)])


@pytest.mark.parametrize(
    ("q", "args", "fits"),
    [
        ("args.a=x", b'{"a": "x"}', True),
        ("args.a=x", b'{"a": "xy"}', False),
        ("args.a=5", b'{"a": 5}', True),
        ("args.a=5", b'{"a": "5"}', True),
        ("args.a=5", b'{"a": 5.0}', True),
        ("args.a=1", b'{"a": true}', False),
        ("args.a=true", b'{"a": true}', True),
        ("args.a=null", b'{"a": null}', True),
        ("args.a=", b'{"a": ""}', True),
        ('args.a=["x",1]', b'{"a": ["x", 1]}', True),
        ("args.a.b=c=d", b'{"a": {"b": "c=d"}}', True),
        ("args.a.b=1", b'{"a": [1]}', False),
    ],
)
def test_an_argument_is_compared_as_text_and_as_json(q: str, args: bytes, fits: bool) -> None:
    wanted = argument(q)
    assert wanted is not None and wanted.fits(msgspec.Raw(args)) is fits


@pytest.mark.parametrize("q", ["", "a", "args", "args.=", "args.a", "ARGS.a=1", "0123456", "0123456G"])
def test_what_is_no_search(q: str) -> None:
    assert argument(q) is None and Filter(q=q).uid == ""


def test_a_filter_survives_as_json() -> None:
    only = Filter(type=("a",), status=(FAILED, SCHEDULED), created_after=at(1), q="args.x=1")
    assert msgspec.convert(msgspec.to_builtins(only), Filter) == only
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"stauts": ["failed"]}, Filter)
