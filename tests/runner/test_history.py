"""What runners tell the history, and that they are at work."""

import os
import signal
import time
from pathlib import Path

import pytest

from service.errors import StoreRefused, StoreUnavailable
from service.observe import marks
from service.runner.counting import Counting
from service.store import Store, Tally
from service.store.history import FINE, HOURS
from service.store.tally import ALL
from tests.runner.crew import Crew
from tests.runner.wires import FaultyWire
from tests.servers import BUSY, RedisServer, eventually
from tests.store.test_history import ended


def hour(store: Store, series: str) -> list[int]:
    """Of this hour and the one before: the test may begin at the end of one."""
    now = int(time.time()) // 3600
    return [sum(both) for both in zip(*store.history.counts(series, HOURS, now - 1, now), strict=True)]


def test_outcomes_stand_in_the_history_after_some_seconds(crew: Crew) -> None:
    crew.start()
    crew.create("echo", count=5)
    crew.create("fails", max_attempts=1)
    eventually(lambda: hour(crew.store, ALL)[:4] == [5, 1, 0, 0], 20 * BUSY)
    numbers = hour(crew.store, "default/echo")
    assert numbers[:4] == [5, 0, 0, 0] and sum(numbers[6:]) == 10


def test_a_runner_that_stops_writes_what_is_left(crew: Crew) -> None:
    [runner] = crew.start()
    uids = crew.create("echo", count=3)
    for uid in uids:
        crew.finished(uid, 10 * BUSY)
    assert crew.stop(runner, 10 * BUSY) == 0
    assert hour(crew.store, "default/echo")[0] == 3
    assert crew.store.roster.at_work() == []


def test_an_attempt_that_does_not_end_in_time_is_told_like_any_other(crew: Crew) -> None:
    """Its process is replaced, and takes along nothing that it has counted."""
    [runner] = crew.start(threads=2)
    [stuck] = crew.create("stubborn", timeout=0.5, max_attempts=1, args={"seconds": 60})
    crew.running(stuck)
    [beside] = crew.create("echo")
    crew.finished(beside)
    assert runner.wait(10 * BUSY) == 70
    assert hour(crew.store, "default/stubborn")[:4] == [0, 1, 0, 0]
    assert hour(crew.store, "default/echo")[:4] == [1, 0, 0, 0]
    [told] = [line for line in crew.log() if line["message"] == "task" and line["uid"] == stuck]
    assert (told["status"], told["error"]["type"]) == ("failed", "TimedOut")


def test_what_redis_did_not_take_is_sent_again_and_added_once(store: Store, wire: FaultyWire) -> None:
    count = Tally()
    counting = Counting(store, count, "me", None)
    wire.only = "EVALSHA"
    for trouble in ("failure", "lost"):
        count.outcomes(time.time(), [ended("succeeded")], [""])
        if trouble == "failure":
            wire.failure = StoreUnavailable("as the test wishes")
        else:
            wire.lost = 1
        with pytest.raises(StoreUnavailable):
            counting.flush()
        wire.failure = None
    counting.flush()
    counting.flush()
    assert hour(store, ALL)[0] == 2


def test_what_redis_refuses_is_given_up_and_holds_nothing_up(store: Store, wire: FaultyWire) -> None:
    count = Tally()
    counting = Counting(store, count, "me", None)
    wire.only, wire.failure = "EVALSHA", StoreRefused("as the test wishes")
    count.outcomes(time.time(), [ended("succeeded")], [""])
    counting.flush()
    wire.failure = None
    count.outcomes(time.time(), [ended("succeeded")], [""])
    counting.flush()
    assert hour(store, ALL)[0] == 1


def test_gauges_are_measured_by_one_runner_of_all(crew: Crew) -> None:
    crew.start(2, threads=2)
    crew.create("echo", queue="elsewhere", count=3)

    def measured() -> list[int]:
        now = int(time.time()) // 15
        found = crew.store.history.gauges("queue:elsewhere", FINE, now - 5, now)
        return [each[0] for each in found if each]

    assert eventually(lambda: 3 in measured(), 40 * BUSY)


def test_marks_that_circusd_left_come_into_the_history_once(crew: Crew, tmp_path: Path) -> None:
    run = tmp_path / "run"
    marks.leave(run, "refused", "sandbox", "/srv/two")
    crew.start(2)
    now = int(time.time() * 1e6)
    eventually(lambda: crew.store.history.marks(now - 10**9, now + 10**9), 10 * BUSY)
    eventually(lambda: not list(marks.left(run)), 10 * BUSY)
    [mark] = crew.store.history.marks(now - 10**9, now + 10**9)
    assert (mark["what"], mark["watcher"], mark["release"]) == ("refused", "sandbox", "/srv/two")


def test_a_runner_tells_what_it_is_and_what_it_executes(crew: Crew) -> None:
    [process] = crew.start(threads=2, queues="default,reports")
    [uid] = crew.create("nap", args={"seconds": 600})
    [found] = eventually(lambda: [each for each in crew.store.roster.at_work() if each.executing], 10 * BUSY)
    assert (found.pid, found.threads, found.queues) == (process.pid, 2, ["default", "reports"])
    assert found.release == os.getcwd() and 10 * 2**20 < found.memory < 2**30
    [executing] = found.executing
    assert (executing.uid, executing.type, executing.queue) == (uid, "nap", "default")
    assert found.started_at <= executing.since
    assert len(crew.store.roster.at_work()) == 1


def test_a_killed_runner_vanishes(crew: Crew) -> None:
    [runner] = crew.start()
    eventually(crew.store.roster.at_work, 10 * BUSY)
    runner.send_signal(signal.SIGKILL)
    eventually(lambda: crew.store.roster.at_work() == [], 30 * BUSY)


def test_a_runner_that_a_handler_holds_up_stays_at_work(crew: Crew, server: RedisServer) -> None:
    """It cannot say so itself; a neighbour vouches for it."""
    crew.start(2)
    eventually(lambda: len(crew.store.roster.at_work()) == 2, 10 * BUSY)
    [uid] = crew.create("hold", args={"seconds": 600})
    eventually(lambda: any("is held up" in line["message"] for line in crew.log()), 20 * BUSY)
    claim = crew.read(uid).claim
    assert claim is not None
    with server.client() as raw:
        line = f"sandbox:{{0}}:roster:{claim.consumer}"
        raw.expire(line, 5)
        eventually(lambda: raw.ttl(line) > 5, 5)
    assert len(crew.store.roster.at_work()) == 2
