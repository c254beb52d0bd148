"""Runner processes with a Sentry server beside them."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service import settings
from service.cli import checking
from service.errors import SettingsError
from service.observe import sentry
from service.store import Store
from service.tasks import moments, transitions
from service.tasks.document import Task
from tests.observe.sentry.sink import HANGS, Sink
from tests.runner.crew import Crew
from tests.servers import BUSY, RedisServer, eventually

TYPES = "service.builtin.demo,tests.runner.handlers,tests.observe.sentry.faults"


@pytest.fixture
def server_kind() -> str:
    return "embedded"


@pytest.fixture
def crew(
    server: RedisServer, store: Store, tmp_path: Path, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Crew]:
    monkeypatch.setenv("SENTRY_DSN", sink.dsn)
    crew = Crew(tmp_path, server.url, store)
    yield crew
    crew.kill_all()


def start(crew: Crew, client: str = "raven", **settings: Any) -> list["subprocess.Popen[bytes]"]:
    os.environ["SENTRY_CLIENT"] = client
    try:
        return crew.start(tasks=TYPES, **settings)
    finally:
        del os.environ["SENTRY_CLIENT"]


def id_of(task: Task) -> str:
    assert task.error is not None and task.error.event_id is not None, task.error
    return task.error.event_id


def pids(crew: Crew) -> list[int]:
    """Of the runners whose lock files are there."""
    return [int(path.name.split(":")[2]) for path in (crew.home / "runners").glob("[!.]*")]


def exception(event: dict[str, Any]) -> dict[str, Any]:
    return dict(event["exception"]["values"][-1])


def test_a_failed_attempt_is_an_event_that_its_document_names(crew: Crew, sink: Sink, client: str) -> None:
    start(crew, client)
    [uid] = crew.create("faulty.run", args={"number": 17, "password": "hunter2-x9"}, max_attempts=1)
    task = crew.finished(uid)
    [event] = sink.expect(1)
    assert id_of(task) == event["event_id"]
    tags = event["tags"]
    assert (tags["type"], tags["queue"], tags["attempt"], tags["uid"]) == ("faulty.run", "default", "1", uid)
    assert tags["process"] == "runner" and tags["runner"].count(":") == 3
    assert exception(event)["stacktrace"]["frames"][-1]["function"] == "faulty_run"
    assert event["breadcrumbs"]["values"][-1]["message"] == "order 17, password=[removed]"
    assert "hunter2-x9" not in str(event)
    [line] = eventually(lambda: [line for line in crew.log() if line["message"] == "task"])
    assert line["error"]["event_id"] == event["event_id"]


@pytest.mark.parametrize("threads", [1, 2])
def test_what_a_handler_logs_as_an_error_names_its_task(crew: Crew, sink: Sink, client: str, threads: int) -> None:
    start(crew, client, threads=threads)
    uids = crew.create("faulty.caught", count=2, request_id="r-1")
    assert [crew.finished(uid).status for uid in uids] == ["succeeded"] * 2
    events = sink.expect(4)
    for event in events:
        tags = event["tags"]
        assert (tags["type"], tags["attempt"], tags["request_id"]) == ("faulty.caught", "1", "r-1")
    assert sorted(event["tags"]["uid"] for event in events) == sorted(uids * 2)
    extras = [event["extra"] for event in events if "exception" in event]
    assert extras == [{"rows": 7, "password": "[removed]"}] * 2
    lines = [line for line in crew.log() if line["message"] == "no month"]
    assert sorted(line["uid"] for line in lines) == sorted(uids)
    assert {(line["rows"], line["type"], line["request_id"]) for line in lines} == {(7, "faulty.caught", "r-1")}


@pytest.mark.parametrize("crashes", [False, True])
def test_what_a_process_of_an_attempt_reports_arrives(crew: Crew, sink: Sink, client: str, crashes: bool) -> None:
    start(crew, client)
    [uid] = crew.create("faulty.apart", args={"crashes": crashes, "password": "hunter2-x9"}, max_attempts=1)
    task = crew.finished(uid)
    logged, failed = sink.expect(2)
    assert logged["logger"] == "shop" and logged["tags"]["uid"] == uid
    assert id_of(task) == failed["event_id"]
    assert (failed["tags"]["type"], failed["tags"]["uid"]) == ("faulty.apart", uid)
    assert exception(failed)["type"] == ("Crashed" if crashes else "ValueError")
    if not crashes:
        assert exception(failed)["stacktrace"]["frames"][-1]["function"] == "faulty_run"
        assert failed["breadcrumbs"]["values"][-1]["message"] == "order 23, password=[removed]"
    assert "hunter2-x9" not in str(failed)


def test_every_attempt_is_an_event_and_all_are_one_issue(crew: Crew, sink: Sink) -> None:
    [runner] = start(crew)
    [uid] = crew.create("faulty.twice", max_attempts=2)
    first = eventually(lambda: task if (task := crew.read(uid)).status == "scheduled" else None)
    last = crew.finished(uid)
    one, two = sink.expect(2)
    assert [id_of(first), id_of(last)] == [one["event_id"], two["event_id"]]
    assert one["fingerprint"] == two["fingerprint"]
    assert crew.stop(runner) == 0  # and sends what waits
    assert len(sink.events) == 2, "the line in the log is no event of its own"


def test_lines_of_one_attempt_are_not_those_of_the_next(crew: Crew, sink: Sink) -> None:
    uids = [uid for number in (1, 2) for uid in crew.create("faulty.run", args={"number": number}, max_attempts=1)]
    start(crew)
    crew.finished(uids[-1])
    _, second = sink.expect(2)
    assert "order 1, " not in str(second["breadcrumbs"]) and "order 2, " in str(second["breadcrumbs"])


def test_what_a_handler_or_a_client_wishes_is_no_event(crew: Crew, sink: Sink) -> None:
    [runner] = start(crew, grace=0)
    for uid in crew.create("reject") + crew.create("again", args={"after": 0.1}) + crew.create("echo"):
        crew.finished(uid)
    [cancelled] = crew.create("nap", args={"seconds": 60})
    crew.running(cancelled)
    crew.store.change(cancelled, lambda task: transitions.cancelled(task, moments.stamp(time.time())))
    [stopped] = crew.create("nap", args={"seconds": 60})
    crew.running(stopped)
    assert crew.stop(runner) == 0
    assert sink.requests == []


def test_a_time_out_says_where_the_handler_was(crew: Crew, sink: Sink) -> None:
    start(crew)
    [uid] = crew.create("nap", args={"seconds": 60}, timeout=0.2, max_attempts=1)
    task = crew.finished(uid)
    [event] = sink.expect(1)
    assert id_of(task) == event["event_id"]
    assert exception(event)["type"] == "TimedOut"
    assert "nap" in [frame["function"] for frame in exception(event)["stacktrace"]["frames"]]


def test_a_handler_that_does_not_end_is_reported_before_its_process_does(crew: Crew, sink: Sink) -> None:
    sink.delay_seconds = 0.3
    [runner] = start(crew)
    [uid] = crew.create("stubborn", args={"seconds": 60}, timeout=0.2, max_attempts=1)
    task = crew.finished(uid)
    assert runner.wait(10 * BUSY) == 70
    [event] = sink.expect(1)
    assert id_of(task) == event["event_id"]
    assert "stubborn" in [frame["function"] for frame in exception(event)["stacktrace"]["frames"]]


def test_the_report_of_a_handler_that_does_not_end_is_without_its_secrets(crew: Crew, sink: Sink, client: str) -> None:
    [runner] = start(crew, client)
    [uid] = crew.create("faulty.stuck", args={"word": "open sesame"}, timeout=0.2, max_attempts=1)
    task = crew.finished(uid, 10 * BUSY)
    assert runner.wait(10 * BUSY) == 70
    [event] = sink.expect(1)
    assert id_of(task) == event["event_id"]
    [own] = [each for each in exception(event)["stacktrace"]["frames"] if each["function"] == "faulty_stuck"]
    assert own["vars"]["word"] == "[removed]" and "sesame" not in str(event)


def test_a_crash_is_reported_by_the_runner_that_sees_it(crew: Crew, sink: Sink, client: str) -> None:
    start(crew, client, runners=4)
    [uid] = crew.create("crash")
    for _ in range(3):
        start(crew, client)
    task = crew.finished(uid, 30)
    events = sink.expect(3)
    assert {event["message"] for event in events} == {"a runner died at a task"}
    assert sorted(event["tags"]["crashes"] for event in events) == ["1", "2", "3"]
    assert {event["tags"]["uid"] for event in events} == {uid}
    assert len({event["tags"]["runner"] for event in events}) == 3
    assert len({tuple(event["fingerprint"]) for event in events}) == 1
    assert id_of(task) in [event["event_id"] for event in events]


def test_a_handler_that_holds_the_interpreter_is_reported_with_its_stack(crew: Crew, sink: Sink) -> None:
    start(crew)
    [uid] = crew.create("hold", timeout=0.2, max_attempts=1)
    eventually(lambda: crew.runners[0].poll() is not None, 30)
    start(crew)
    task = crew.finished(uid, 30)
    [event] = sink.expect(1)
    assert id_of(task) == event["event_id"]
    assert "hold" in event["extra"]["stacks"]


def test_an_error_in_a_thread_of_a_handler_is_reported(crew: Crew, sink: Sink) -> None:
    start(crew)
    [uid] = crew.create("faulty.thread")
    assert crew.finished(uid).status == "succeeded"
    [event] = sink.expect(1)
    assert event["tags"]["thread"] == "side-job"


def test_a_server_that_hangs_slows_no_task_and_no_stop(crew: Crew, sink: Sink, client: str) -> None:
    sink.behaviour = HANGS
    [runner] = start(crew, client)
    crew.finished(crew.create("echo")[0])
    began = time.monotonic()
    for uid in crew.create("faulty.run", count=30, args={"number": 1}, max_attempts=1):
        assert id_of(crew.finished(uid))
    assert time.monotonic() - began < 30 * 0.1 * BUSY
    began = time.monotonic()
    assert crew.stop(runner) == 0
    assert time.monotonic() - began < 4.5 * BUSY


def test_the_log_gets_one_line_a_minute_about_a_server_that_fails(crew: Crew, sink: Sink) -> None:
    sink.behaviour = 403
    [runner] = start(crew)
    for uid in crew.create("faulty.run", count=20, args={"number": 1}, max_attempts=1):
        crew.finished(uid)
    eventually(lambda: len(sink.requests) == 20)
    crew.stop(runner)
    lines = [line for line in crew.log() if "Sentry" in line["message"]]
    assert [line["level"] for line in lines] == ["warning"]


def test_without_a_dsn_nothing_is_imported_and_no_thread_runs(
    crew: Crew, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    for dsn in (sink.dsn, ""):
        monkeypatch.setenv("SENTRY_DSN", dsn)
        [runner] = start(crew)
        crew.finished(crew.create("echo")[0])
        threads.append(len(os.listdir(f"/proc/{runner.pid}/task")))
        crew.stop(runner)
    assert threads[0] == threads[1]
    program = """
import sys
from service import settings
from service.cli import wiring
types = wiring.registry(settings.read({}))
assert wiring.errors(settings.read({}), "runner", types) is wiring.NO_ERRORS
heavy = ("raven", "sentry_sdk", "service.observe.sentry.", "http.client")
print([name for name in sys.modules if name.startswith(heavy)])
"""
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, check=True)
    assert done.stdout == "['service.observe.sentry.contract']\n"


def test_raven_brings_no_other_library_into_a_runner() -> None:
    program = """
import sys
from service.observe.sentry import reporter
reporter.connect("https://key@127.0.0.1/1", client="raven", release="r", environment="e", process="p")
print([name for name in ("gevent", "requests", "tornado") if name in sys.modules])
import gevent
"""
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_runner_that_is_killed_between_tasks_is_reported_once(crew: Crew, sink: Sink) -> None:
    victim, *_ = start(crew) + start(crew) + start(crew)
    eventually(lambda: len(pids(crew)) == 3)
    victim.kill()
    victim.wait()
    [event] = sink.expect(1)
    assert event["message"] == "a runner died between tasks"
    assert f":{victim.pid}:" in event["tags"]["runner"]
    eventually(lambda: len(pids(crew)) == 2)
    assert len(sink.requests) == 1


def test_a_runner_that_replaces_itself_is_not_reported_as_dead(crew: Crew, sink: Sink) -> None:
    [runner] = start(crew)
    [uid] = crew.create("stubborn", args={"seconds": 60}, timeout=0.2, max_attempts=1)
    crew.finished(uid)
    runner.wait(10 * BUSY)
    [neighbour] = start(crew)
    eventually(lambda: pids(crew) == [neighbour.pid])
    assert crew.stop(neighbour) == 0
    assert len(sink.requests) == 1


def test_what_waits_is_sent_when_a_runner_is_told_to_stop(crew: Crew, sink: Sink, client: str) -> None:
    [runner] = start(crew, client)
    uids = crew.create("faulty.run", count=30, args={"number": 1}, max_attempts=1)
    crew.finished(uids[-1])
    assert crew.stop(runner) == 0
    assert len(sink.events) == len([uid for uid in uids if crew.read(uid).finished])


def test_a_client_that_is_not_installed_refuses_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    with pytest.raises(SettingsError, match=r"^SENTRY_CLIENT is 'sentry-sdk', which is not installed"):
        sentry.check("sentry-sdk")
    sentry.check("raven")
    dsn = {"SENTRY_DSN": "https://key@127.0.0.1/1", "SENTRY_CLIENT": "sentry-sdk", "SANDBOX_HOME": "nowhere"}
    with pytest.raises(SettingsError, match="not installed"):
        checking.check(settings.read(dsn))
