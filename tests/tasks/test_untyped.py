"""Numbers that msgspec reads slowly (an exponent of 289 or more, or below -307: some 10 µs each, 0.4 s for 256 KB)."""

import time
from typing import Any

import msgspec
import pytest

from service import Context, task
from service.store.selection import argument
from service.tasks import untyped
from service.tasks.declare import marked_type
from tests.servers import BUSY

MANY = b"[" + b",".join([b"1e308"] * 43_000) + b"]"


@pytest.mark.parametrize("q", ["args.other=1", "args.x=1", "args.x.y=1"])
def test_a_search_reads_no_value_that_cannot_be_the_one(monkeypatch: pytest.MonkeyPatch, q: str) -> None:
    wanted = argument(q)
    assert wanted is not None
    monkeypatch.setattr(untyped, "decode", lambda _: pytest.fail("it is read"))
    assert not wanted.fits(msgspec.Raw(b'{"x":' + MANY + b"}"))


def test_large_numbers_cost_little_when_a_task_is_created() -> None:
    @task("any")
    def any_(context: Context, x: Any = None) -> None: ...

    task_type = marked_type(any_)
    assert task_type is not None
    begun = time.thread_time()
    task_type.accept(msgspec.Raw(b'{"x":' + MANY + b"}"))
    assert time.thread_time() - begun < 0.2 * BUSY, "msgspec by itself takes 0.9 s"


def test_numbers_are_read_as_msgspec_reads_them() -> None:
    text = b"[1.5,-0.0,1e5,2E-3,1e308,5e-324,1e-400,7,18446744073709551616]"
    assert untyped.decode(text) == msgspec.json.decode(text)
    for read in (untyped.decode, msgspec.json.decode):
        with pytest.raises(msgspec.ValidationError, match="Number out of range"):
            read(b"[1e400]")
