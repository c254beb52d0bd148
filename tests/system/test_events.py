"""A stream of events through a reload: it ends, its reader comes back, and nothing is missing."""

from collections.abc import Callable
from pathlib import Path

from tests.servers import BUSY, eventually
from tests.system.instance import ROOT, Instance
from tests.web.event_reader import Reader

HANDLER = """
import time
from pathlib import Path
from service import Context, task

@task("count")
def count(context: Context, until: str) -> int:
    number = 0
    while not Path(until).exists():
        number += 1
        context.log(f"line {number}")
        time.sleep(0.05)
    return number
"""
READERS = 20


def test_readers_come_back_after_a_reload_and_miss_nothing(
    make_instance: Callable[..., Instance], folder: Path
) -> None:
    (folder / "counting.py").write_text(HANDLER)
    instance = make_instance(
        SANDBOX_TASKS="service.builtin.demo,counting", PYTHONPATH=f"{ROOT}:{folder}", SANDBOX_RUNNERS="1"
    ).started()
    over = folder / "over"
    uid = instance.create("count", until=str(over))
    first = [Reader(instance.port, uid) for _ in range(READERS)]
    eventually(lambda: all(len(reader.lines) > 5 for reader in first))

    assert instance.circusctl("reload", "sandbox") == "ok\n"
    eventually(lambda: all(reader.is_over for reader in first), 5.0 * BUSY)
    assert not any(reader.of("end") for reader in first)
    second = [Reader(instance.port, uid, reader.last_seen) for reader in first]
    eventually(lambda: all(reader.lines for reader in second))
    over.touch()
    eventually(lambda: all(reader.is_over for reader in second))

    count = instance.task(uid)["result"]
    for before, after in zip(first, second, strict=True):
        assert before.lines + after.lines == [f"line {number}" for number in range(1, count + 1)]
        assert after.statuses[-1] == "succeeded" and after.of("end") == [{"status": "succeeded"}]
    for reader in (*first, *second):
        reader.close()
    assert instance.stop() == 0
