"""What runners do with tasks: real processes, real signals, real Redis."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from service.runner import alarm, lockfile
from service.runner.lane import LARGEST_BATCH
from service.store import SCRIPTS, Layout, Store
from service.store.connection import connect
from service.tasks import moments, transitions
from service.tasks.document import Task, TaskError
from tests.runner.crew import Crew
from tests.servers import BUSY, RedisServer, eventually


def result(task: Task) -> object:
    return json.loads(bytes(task.result))


def error(task: Task) -> TaskError:
    assert task.error is not None
    return task.error


def fraction(task: Task) -> float:
    progress = json.loads(bytes(task.progress))
    return float(progress["fraction"]) if progress else 0.0


def noted(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


class TestOutcomes:
    def test_a_task_succeeds_with_its_result_and_its_times(self, crew: Crew) -> None:
        crew.start()
        [uid] = crew.create("echo", args={"message": {"a": [1, "é"]}})
        task = crew.finished(uid)
        assert (task.status, result(task), task.attempt, task.failures) == ("succeeded", {"a": [1, "é"]}, 1, 0)
        assert task.started_at and task.finished_at and task.created_at <= task.started_at <= task.finished_at
        assert task.duration is not None and 0 <= task.duration < 1
        assert crew.nothing_left()

    @pytest.mark.parametrize("threads", [1, 2])
    def test_an_exception_is_tried_again_and_then_fails(self, crew: Crew, threads: int) -> None:
        crew.start(threads=threads)
        [uid] = crew.create("fails", max_attempts=2)
        task = crew.finished(uid)
        assert (task.status, task.attempt, task.failures, task.crashes) == ("failed", 2, 2, 0)
        assert error(task).type == "ValueError" and "broken ? text" in error(task).message
        assert crew.nothing_left()

    @pytest.mark.parametrize("threads", [1, 2])
    @pytest.mark.parametrize("raises", [False, True])
    def test_a_copy_that_comes_back_from_the_handler_is_ended(
        self, crew: Crew, capfd: pytest.CaptureFixture[str], threads: int, raises: bool
    ) -> None:
        crew.start(threads=threads)
        for _ in range(2):
            [uid] = crew.create("forks", args={"raises": raises})
            task = crew.finished(uid)
            assert (task.status, result(task), task.attempt) == ("succeeded", 1, 1)
        assert crew.nothing_left()
        log = (crew.home / "log" / "runner.log").read_text()
        assert log.count("its copy came back: it was ended") == 2
        assert "mmap" not in log + (crew.home / "log" / "runner.out").read_text() + capfd.readouterr().err

    @pytest.mark.parametrize("threads", [1, 2])
    def test_what_a_handler_forks_can_be_terminated(self, crew: Crew, threads: int) -> None:
        crew.start(threads=threads)
        for uid in crew.create("terminates", count=2):
            assert result(crew.finished(uid, 60)) == -signal.SIGTERM

    def test_flaky_succeeds_after_its_failures(self, crew: Crew) -> None:
        crew.start()
        [uid] = crew.create("flaky", args={"failures": 1})
        task = crew.finished(uid)
        assert (task.status, task.attempt, task.failures, task.error) == ("succeeded", 2, 1, None)

    def test_between_two_attempts_the_task_is_scheduled_and_says_why(self, crew: Crew) -> None:
        crew.start()
        [uid] = crew.create("again", args={"after": 3600})
        task = eventually(lambda: t if (t := crew.read(uid)).failures else None)
        assert task.status == "scheduled" and error(task).message == "come back"
        assert 3595e6 < moments.microseconds(task.run_at) - time.time() * 1e6 < 3601e6

    def test_retry_after_a_time_runs_again_then(self, crew: Crew) -> None:
        crew.start()
        [uid] = crew.create("again", args={"after": 0.2})
        assert result(crew.finished(uid)) == 2

    @pytest.mark.parametrize("after", [1e12, -1, "soon", None])
    def test_an_impossible_retry_fails_the_task_and_nothing_else(self, crew: Crew, after: object) -> None:
        [runner] = crew.start()
        [uid] = crew.create("retries", args={"after": after}, max_attempts=1 if after is None else 3)
        [other] = crew.create("echo")
        task = crew.finished(uid)
        assert (task.status, task.attempt) == ("failed", 1)
        assert crew.finished(other).status == "succeeded" and runner.poll() is None

    def test_reject_fails_at_once(self, crew: Crew) -> None:
        crew.start()
        [uid] = crew.create("reject", max_attempts=9)
        task = crew.finished(uid)
        assert (task.status, task.attempt, error(task).message) == ("failed", 1, "not with me")

    @pytest.mark.parametrize("what", ["Cancelled", "Stopping"])
    def test_an_interruption_of_the_handler_s_own_is_only_a_failure(self, crew: Crew, what: str) -> None:
        crew.start()
        [uid] = crew.create("raises", max_attempts=1, args={"what": what})
        task = crew.finished(uid)
        assert (task.status, task.attempt, task.failures, error(task).type) == ("failed", 1, 1, "BadInterruption")

    def test_leaving_the_interpreter_is_only_a_failure(self, crew: Crew) -> None:
        [runner] = crew.start()
        [uid] = crew.create("exits", max_attempts=1)
        assert error(crew.finished(uid)).type == "SystemExit"
        assert runner.poll() is None

    @pytest.mark.parametrize(
        ("what", "says"),
        [
            ("set", "not JSON-able"),
            ("nan", "not JSON-able"),
            ("object", "not JSON-able"),
            ("bytes", "not JSON-able"),
            ("surrogate", "not JSON-able"),
            ("large", "262,144 are allowed"),
        ],
    )
    def test_a_result_that_cannot_be_stored_fails_the_task(self, crew: Crew, what: str, says: str) -> None:
        crew.start()
        [uid] = crew.create("returns", args={"what": what})
        task = crew.finished(uid)
        assert (task.status, task.attempt) == ("failed", 1) and says in error(task).message

    @pytest.mark.parametrize(("what", "stored"), [("tuple", [1, "two", None, 3.5]), ("huge number", 10**40)])
    def test_what_json_can_say_is_stored(self, crew: Crew, what: str, stored: object) -> None:
        crew.start()
        [uid] = crew.create("returns", args={"what": what})
        assert result(crew.finished(uid)) == stored

    def test_a_handler_that_closes_the_output_does_not_fail_the_prints_of_others(self, crew: Crew) -> None:
        crew.start()
        crew.finished(*crew.create("closes.output"))
        assert crew.finished(*crew.create("prints", max_attempts=9), 30).status == "succeeded"
        printed = crew.home / "log" / "runner.out"
        eventually(lambda: "heard\n" in printed.read_text())

        def child_is_heard() -> bool:
            crew.finished(*crew.create("prints", max_attempts=9))
            return "heard from a child" in printed.read_text()

        eventually(child_is_heard)

    def test_one_log_line_an_outcome(self, crew: Crew) -> None:
        crew.start()
        [uid] = crew.create("echo")
        crew.finished(uid)
        [line] = eventually(lambda: [line for line in crew.log() if line.get("uid") == uid])
        assert (line["message"], line["status"], line["type"], line["attempt"]) == ("task", "succeeded", "echo", 1)

    def test_a_log_of_warnings_keeps_the_tracebacks_of_failures(self, crew: Crew) -> None:
        crew.start(log_level="warning")
        [uid] = crew.create("fails", max_attempts=2)
        crew.finished(uid)
        first, last = (line for line in crew.log() if line["message"] == "an attempt failed")
        assert [(line["level"], line["uid"], line["attempt"]) for line in (first, last)] == [
            ("warning", uid, 1),
            ("error", uid, 2),
        ]
        assert all("ValueError: broken" in line["traceback"] for line in (first, last))


class TestRunningTasks:
    def test_a_running_task_shows_its_start_and_its_progress(self, crew: Crew) -> None:
        crew.start()
        [uid] = crew.create("steps", args={"seconds": 3})
        seen = eventually(lambda: t if fraction(t := crew.read(uid)) else None)  # the first step's is 0
        assert seen.status == "running" and seen.started_at
        progress = json.loads(bytes(seen.progress))
        assert 0 < progress["fraction"] < 1 and progress["message"].startswith("step ")
        assert crew.finished(uid).status == "succeeded"

    def test_the_last_progress_is_settled_with_the_outcome_in_one_step(self, crew: Crew) -> None:
        crew.start()
        task = crew.finished(*crew.create("steps", args={"seconds": 0}))
        assert json.loads(bytes(task.progress)) == {"fraction": 0.9, "message": "step 9"}
        assert (task.status, task.revision) == ("succeeded", 3)  # created, claimed, settled

    @pytest.mark.parametrize("threads", [1, 3])
    def test_a_cancelled_handler_is_interrupted_within_a_second(self, crew: Crew, threads: int) -> None:
        crew.start(threads=threads)
        [uid] = crew.create("sleep", args={"seconds": 60})
        crew.running(uid)
        crew.store.change(uid, lambda task: transitions.cancelled(task, moments.stamp(time.time())))
        cancelled_at = time.monotonic()
        [after] = crew.create("echo")
        assert crew.finished(after).status == "succeeded"
        if threads == 1:
            assert time.monotonic() - cancelled_at < 1.0 * BUSY
        eventually(crew.nothing_left)
        assert crew.read(uid).status == "cancelled"

    def test_one_blocking_call_is_interrupted_too(self, crew: Crew) -> None:
        crew.start()
        [uid] = crew.create("nap", args={"seconds": 60})
        crew.running(uid)
        crew.store.change(uid, lambda task: transitions.cancelled(task, moments.stamp(time.time())))
        began = time.monotonic()
        eventually(crew.nothing_left)
        assert time.monotonic() - began < 1.0 * BUSY

    def test_whoever_begins_threads_is_interrupted_himself(self, crew: Crew) -> None:
        [runner] = crew.start(threads=4)
        for uid in crew.create("threads.begun", count=12, timeout=0.1):
            assert crew.finished(uid, 60.0).status == "failed"
        assert not [line for line in crew.log() if "does not end" in line["message"]]
        assert runner.poll() is None

    def test_a_task_cancelled_and_retried_while_it_runs_runs_again(self, crew: Crew, tmp_path: Path) -> None:
        crew.start()
        [uid] = crew.create("note", args={"path": str(tmp_path / "runs"), "seconds": 1.5})
        crew.running(uid)
        crew.store.change(uid, lambda task: transitions.cancelled(task, moments.stamp(time.time())))
        crew.store.change(uid, transitions.requeued)
        assert crew.finished(uid).status == "succeeded"
        assert len((tmp_path / "runs").read_text().splitlines()) == 2
        eventually(crew.nothing_left)


class TestTimeouts:
    @pytest.mark.parametrize("type", ["sleep", "nap", "shell"])
    def test_a_timeout_ends_the_attempt_as_an_exception(self, crew: Crew, type: str) -> None:
        [runner] = crew.start()
        args = {"command": "sleep 60"} if type == "shell" else {"seconds": 60}
        [uid] = crew.create(type, timeout=0.5, max_attempts=1, args=args)
        task = crew.finished(uid)
        assert task.status == "failed" and error(task).type == "TimedOut" and "0.5 s" in error(task).message
        assert task.duration is not None and 0.5 <= task.duration < 1 * BUSY
        assert runner.poll() is None

    @pytest.mark.parametrize("threads", [1, 2])
    def test_a_handler_that_swallows_it_is_ended_with_its_process(self, crew: Crew, threads: int) -> None:
        [runner] = crew.start(threads=threads)
        [uid] = crew.create("stubborn", timeout=0.5, max_attempts=1, args={"seconds": 60})
        crew.running(uid)
        others = crew.create("echo", count=3)
        began = time.monotonic()
        assert runner.wait(10 * BUSY) == 70
        assert 1.5 < time.monotonic() - began < 4 * BUSY
        task = crew.read(uid)
        assert (task.status, error(task).type, task.crashes) == ("failed", "TimedOut", 0)
        assert any("in stubborn" in line["message"] for line in crew.log())
        crew.start()
        for other in others:
            done = crew.finished(other)
            assert (done.status, done.crashes, done.attempt) == ("succeeded", 0, 1)

    def test_the_process_is_replaced_though_its_threads_are_greenlets(self, crew: Crew) -> None:
        [runner] = crew.start(tasks="tests.runner.patched")
        [uid] = crew.create("deaf", timeout=0.5, max_attempts=1)
        assert runner.wait(30) == 70
        assert error(crew.read(uid)).type == "TimedOut"
        assert "patch_all(thread=False)" in str(crew.log())

    def test_lanes_that_are_greenlets_work(self, crew: Crew) -> None:
        crew.start(threads=2, tasks="tests.runner.patched,service.builtin.demo")
        for uid in crew.create("echo", count=20):
            assert crew.finished(uid).status == "succeeded"

    def test_lanes_that_are_greenlets_take_the_signals_back(self, crew: Crew) -> None:
        crew.start(threads=2, tasks="tests.runner.patched")
        assert not any(result(crew.finished(uid)) for uid in crew.create("careless", count=40))

    def test_while_a_process_is_replaced_nothing_starts_in_it_and_nobody_else_is_charged(
        self, crew: Crew, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # a Sentry that does not answer: last words take long
            monkeypatch.setenv("SENTRY_DSN", f"http://key@127.0.0.1:{silent.getsockname()[1]}/1")
            [runner] = crew.start(threads=2)
            [stuck] = crew.create("stubborn", timeout=0.5, max_attempts=1, args={"seconds": 60})
            crew.running(stuck)
            others = crew.create("sleep", count=60, args={"seconds": 0.2})
            assert runner.wait(10 * BUSY) == 70
        assert crew.read(stuck).status == "failed"
        [ended] = eventually(lambda: [line for line in crew.log() if "does not end" in line["message"]])
        started = [task.started_at for uid in others if (task := crew.read(uid)).started_at]
        assert started and max(started) <= ended["time"]
        crew.start(4, threads=4)
        assert {crew.finished(uid, 20).crashes for uid in others} == {0}

    def test_the_other_lanes_finish_before_the_process_is_replaced(self, crew: Crew, tmp_path: Path) -> None:
        [runner] = crew.start(threads=3)
        [stuck] = crew.create("stubborn", args={"seconds": 600})
        crew.running(stuck)
        running = crew.create("note", count=2, args={"path": str(tmp_path / "runs"), "seconds": 5})
        eventually(lambda: len(noted(tmp_path / "runs")) == 2)
        crew.store.change(stuck, lambda task: transitions.cancelled(task, moments.stamp(time.time())))
        for uid in running:
            task = crew.finished(uid, 20)
            assert (task.status, task.attempt) == ("succeeded", 1)
        assert runner.wait(10 * BUSY) == 70
        assert len(noted(tmp_path / "runs")) == 2

    def test_a_task_that_kills_the_process_meanwhile_is_charged(self, crew: Crew, tmp_path: Path) -> None:
        [runner] = crew.start(threads=2)
        killer = f"until [ -e {tmp_path}/now ]; do sleep 0.1; done; kill -9 $PPID"
        crew.create("stubborn", timeout=0.5, args={"seconds": 600})
        [deadly] = crew.create("shell", args={"command": killer})
        crew.running(deadly)
        eventually(lambda: any("does not end" in line["message"] for line in crew.log()))
        (tmp_path / "now").touch()
        assert runner.wait(10 * BUSY) == -signal.SIGKILL
        crew.start(threads=2)
        eventually(lambda: crew.read(deadly).crashes == 1)

    @pytest.mark.skipif(not alarm.SIGNAL, reason="this system has no alarm")
    def test_nor_does_a_task_that_holds_the_interpreter_meanwhile_keep_the_process(
        self, crew: Crew, tmp_path: Path
    ) -> None:
        """The runner has no neighbour."""
        [runner] = crew.start(threads=2, grace=2)
        crew.create("stubborn", timeout=0.5, max_attempts=1, args={"seconds": 600})
        gate = str(tmp_path / "now")
        [hold] = crew.create("hold.later", args={"path": gate})
        crew.running(hold)
        eventually(lambda: any("does not end" in line["message"] for line in crew.log()))
        Path(gate).touch()
        assert runner.wait(30) == -alarm.SIGNAL

    def test_nor_is_anybody_charged_when_redis_does_not_hear_the_last_words(
        self, mortal_crew: Crew, mortal_server: RedisServer
    ) -> None:
        crew, server = mortal_crew, mortal_server
        [runner] = crew.start(threads=2, grace=0)
        [innocent] = crew.create("nap", args={"seconds": 60})  # nothing interrupts it
        [stuck] = crew.create("stubborn", timeout=2.0, max_attempts=1, args={"seconds": 60})
        crew.running(stuck)
        before = crew.running(innocent).claim
        server.freeze()
        assert runner.wait(30) == 70
        server.kill()  # what it has received and not read is lost
        server.start("--appendfsync", "always")
        crew.start(threads=2)
        assert eventually(lambda: task if (task := crew.read(innocent)).claim != before else None).crashes == 0
        eventually(lambda: crew.read(stuck).crashes == 1)

    def test_a_regular_expression_that_does_not_end_is_interrupted(self, crew: Crew) -> None:
        [runner] = crew.start()
        [overdue] = crew.create("hog", timeout=0.5, max_attempts=1)
        assert error(crew.finished(overdue)).type == "TimedOut"
        [cancelled] = crew.create("hog")
        crew.running(cancelled)
        crew.store.change(cancelled, lambda task: transitions.cancelled(task, moments.stamp(time.time())))
        assert crew.finished(*crew.create("echo")).status == "succeeded"
        assert runner.poll() is None

    def test_nor_does_it_hold_up_what_the_only_runner_had_claimed(self, crew: Crew) -> None:
        """All of it is handed back, and what had ended is settled."""
        [runner] = crew.start(grace=0.5)
        for uid in crew.create("echo", count=300):
            crew.finished(uid)
        runner.send_signal(signal.SIGSTOP)
        before, hog, after = crew.new("echo", count=20), crew.new("hog"), crew.new("echo", count=20)
        crew.store_all(before + hog + after)
        runner.send_signal(signal.SIGCONT)
        crew.running(hog[0].uid)
        for task in before:
            assert crew.finished(task.uid).attempt == 1
        eventually(lambda: {crew.read(task.uid).status for task in after} == {"queued"})
        assert crew.stop(runner) == 0
        task = crew.read(hog[0].uid)
        assert (task.status, task.attempt, task.failures, task.crashes) == ("queued", 1, 0, 0)

    def test_a_busy_c_call_is_ended_with_its_process(self, crew: Crew) -> None:
        [runner, *_] = crew.start()
        [uid] = crew.create("hold", timeout=0.5, max_attempts=1)
        assert runner.wait(10 * BUSY) == -alarm.SIGNAL
        crew.start()
        task = crew.finished(uid)
        assert (task.status, error(task).type, task.failures, task.crashes) == ("failed", "TimedOut", 1, 0)
        assert task.started_at and task.finished_at and task.started_at < task.finished_at < moments.stamp(time.time())
        assert any("in hold" in line["message"] for line in crew.log())

    @pytest.mark.parametrize("way", ["alarm", "setitimer"])
    def test_python_s_own_alarm_is_the_handler_s_and_the_last_resort_works_after_it(self, crew: Crew, way: str) -> None:
        [runner] = crew.start()
        [woken] = crew.create("alarm", timeout=30, args={"way": way})
        assert result(crew.finished(woken)) == "woken"
        crew.create("hold", timeout=0.5, max_attempts=1)
        assert runner.wait(10 * BUSY) == -alarm.SIGNAL

    def test_a_runner_killed_by_others_has_crashed_even_if_it_is_found_late(self, crew: Crew) -> None:
        [runner] = crew.start()
        [uid] = crew.create("sleep", timeout=1, max_attempts=1, args={"seconds": 0.9})
        crew.running(uid)
        runner.kill()
        runner.wait()
        time.sleep(1.5)  # until its time would be over
        crew.start()
        task = crew.finished(uid)
        assert (task.status, task.crashes, task.failures) == ("succeeded", 1, 0)

    def test_a_stale_alarm_does_not_hit_the_next_task(self, crew: Crew) -> None:
        [runner] = crew.start()
        crew.create("sleep", timeout=0.3, args={"seconds": 0.1})
        [uid] = crew.create("sleep", args={"seconds": 4})
        assert crew.finished(uid).status == "succeeded"
        assert runner.poll() is None


class TestCrashes:
    def test_the_executing_task_is_blamed_and_nothing_else(self, crew: Crew) -> None:
        before = crew.create("echo", count=20)
        [bad] = crew.create("crash")
        after = crew.create("echo", count=LARGEST_BATCH - 21)
        for _ in range(12):
            [runner] = crew.start()
            eventually(lambda runner=runner: runner.poll() is not None or crew.read(bad).finished)
            if crew.read(bad).finished:
                break
        task = crew.read(bad)
        assert (task.status, task.crashes, task.failures, error(task).type) == ("failed", 3, 0, "Crashed")
        for uid in before + after:
            done = crew.finished(uid)
            assert (done.status, done.crashes, done.failures) == ("succeeded", 0, 0)
        eventually(crew.nothing_left)

    def test_a_crashed_task_runs_again_within_two_seconds(self, crew: Crew, tmp_path: Path) -> None:
        crew.start(2)
        [uid] = crew.create("crash.once", args={"path": str(tmp_path / "flag")})
        began = time.monotonic()
        task = crew.finished(uid)
        assert time.monotonic() - began < 3 * BUSY
        assert (task.status, task.crashes, task.attempt, result(task)) == ("succeeded", 1, 2, 2)
        assert f"took over 1 of its tasks; it died at crash.once {uid}" in str(crew.log())

    def test_a_killed_runner_is_replaced_and_forgotten(self, crew: Crew, tmp_path: Path) -> None:
        [first] = crew.start()
        [uid] = crew.create("note", args={"path": str(tmp_path / "runs"), "seconds": 1.0})
        crew.running(uid)
        crew.start()
        first.kill()
        first.wait()
        killed = time.monotonic()
        eventually(lambda: len(noted(tmp_path / "runs")) == 2)
        assert time.monotonic() - killed < 2 * BUSY
        assert crew.finished(uid).crashes == 1
        eventually(lambda: len(list((crew.home / "runners").iterdir())) == 1)
        eventually(lambda: len(crew.store.queues.consumers(0, ["default"])) == 1)

    def test_what_a_lost_host_left_a_day_ago_is_removed(self, crew: Crew) -> None:
        lost = crew.home / "runners" / "lost:boot:1:2"
        lost.parent.mkdir()
        lost.touch()
        os.utime(lost, (0, 0))
        crew.start()
        eventually(lambda: not lost.exists())

    def test_the_silent_are_taken_over_when_their_lease_has_run_out(self, crew: Crew, tmp_path: Path) -> None:
        [first] = crew.start(lease=2, home=tmp_path / "other-host")
        [uid] = crew.create("note", args={"path": str(tmp_path / "runs"), "seconds": 20})
        crew.running(uid)
        crew.start(lease=2)
        first.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        try:
            eventually(lambda: len(noted(tmp_path / "runs")) == 2)
            assert 1.3 < time.monotonic() - stopped < (2 + 5) * BUSY
            taken = crew.running(uid)
            first.send_signal(signal.SIGCONT)
            # Who has lost the claim touches nothing more.
            [marks] = (tmp_path / "other-host" / "runners").iterdir()
            eventually(lambda: (found := lockfile._read(marks)) and found.ended and not found.deadlines)
            assert crew.read(uid).claim == taken.claim
        finally:
            first.send_signal(signal.SIGCONT)


class TestSharing:
    @pytest.mark.parametrize("threads", [1, 2])
    def test_a_long_task_does_not_hold_up_what_an_idle_runner_could_take(self, crew: Crew, threads: int) -> None:
        runners = crew.start(2, threads=threads)
        for uid in crew.create("echo", count=1000):  # so that everybody fetches in batches
            crew.finished(uid)
        for runner in runners:
            runner.send_signal(signal.SIGSTOP)
        before, long, after = (
            crew.new("echo", count=20),
            crew.new("sleep", args={"seconds": 60}),
            crew.new("echo", count=LARGEST_BATCH - 21),
        )
        crew.store_all(before + long + after)  # one batch, for whoever is first
        for runner in runners:
            runner.send_signal(signal.SIGCONT)
        began = time.monotonic()
        for task in before + after:
            assert crew.finished(task.uid).attempt == 1
        assert time.monotonic() - began < 2 * BUSY
        assert crew.read(long[0].uid).status == "running"

    def test_threads_run_side_by_side(self, crew: Crew) -> None:
        crew.start(threads=4)
        uids = crew.create("sleep", count=4, args={"seconds": 1})
        done = [crew.finished(uid) for uid in uids]
        assert {task.status for task in done} == {"succeeded"}
        assert max(str(task.started_at) for task in done) < min(str(task.finished_at) for task in done)

    def test_queues_are_served_in_the_order_of_the_setting(self, crew: Crew, tmp_path: Path) -> None:
        path = str(tmp_path / "runs")
        crew.create("note", count=3, queue="low", args={"path": path, "text": "low"})
        crew.create("note", count=3, queue="high", args={"path": path, "text": "high"})
        crew.start(queues="high,low")
        lines = eventually(lambda: found if len(found := noted(tmp_path / "runs")) == 6 else None)
        assert [line.split()[0] for line in lines] == ["high"] * 3 + ["low"] * 3

    def test_scheduled_tasks_become_due_within_a_second(self, crew: Crew) -> None:
        crew.start()
        due = time.time() + 1.5
        [uid] = crew.create("echo", run_at=moments.stamp(due))
        task = crew.finished(uid)
        assert 0 <= moments.microseconds(task.started_at) / 1e6 - due < 1.0 * BUSY

    def test_an_unknown_type_waits_for_a_runner_that_knows_it(self, crew: Crew) -> None:
        crew.start(tasks="service.builtin.demo")
        [uid] = crew.create("returns", args={"what": "tuple"})
        eventually(lambda: crew.read(uid).status == "scheduled")
        task = crew.read(uid)
        assert (task.attempt, task.failures, task.crashes) == (0, 0, 0)
        crew.start()
        assert crew.finished(uid, 20).status == "succeeded"

    def test_a_crowd_of_an_unknown_type_is_put_aside_in_few_round_trips_and_for_longer_when_it_is_old(
        self, crew: Crew, server: RedisServer
    ) -> None:
        crowd = crew.new("of.a.newer.release", count=640)
        for task in crowd:
            task.created_at = moments.stamp(time.time() - 3600)
        crew.store_all(crowd)
        server.client().config_resetstat()
        crew.start(tasks="service.builtin.demo")
        eventually(lambda: crew.read(crowd[-1].uid).status == "scheduled")
        calls = server.client().info("commandstats")["cmdstat_evalsha"]["calls"]
        assert calls < 100
        for task in crowd:
            run_at = crew.read(task.uid).run_at
            assert run_at and 50e6 < moments.microseconds(run_at) - time.time() * 1e6 <= 60e6

    def test_an_unknown_field_is_neither_ignored_nor_dropped(self, crew: Crew, server: RedisServer) -> None:
        [uid] = crew.create("echo")
        text = server.client().get(uid)
        server.client().set(uid, text[:-1] + b',"colour":7}')
        crew.start()
        eventually(lambda: crew.read(uid).status == "scheduled")
        assert json.loads(server.client().get(uid))["colour"] == 7

    def test_what_is_no_document_does_not_stop_the_others(self, crew: Crew, server: RedisServer) -> None:
        [broken, fine] = crew.create("echo", count=2)
        server.client().set(broken, b"no JSON")
        [runner] = crew.start()
        assert crew.finished(fine).status == "succeeded"
        assert runner.poll() is None
        assert server.client().get(broken) == b"no JSON"


class TestStopping:
    def test_term_finishes_what_runs_and_hands_back_what_waits(self, crew: Crew) -> None:
        [runner] = crew.start()
        for uid in crew.create("echo", count=300):
            crew.finished(uid)
        [long] = crew.create("sleep", args={"seconds": 2})
        waiting = crew.create("echo", count=30)
        crew.running(long)
        assert crew.stop(runner) == 0
        assert crew.read(long).status == "succeeded"
        for uid in waiting:
            task = crew.read(uid)
            assert task.finished or (task.status, task.attempt) == ("queued", 0)
        assert list((crew.home / "runners").iterdir()) == []

    @pytest.mark.parametrize("threads", [1, 2])
    def test_after_the_grace_time_the_task_goes_back_uncharged(self, crew: Crew, threads: int) -> None:
        [runner] = crew.start(grace=0.5, threads=threads)
        [uid] = crew.create("sleep", args={"seconds": 30})
        crew.running(uid)
        began = time.monotonic()
        assert crew.stop(runner) == 0
        assert time.monotonic() - began < 2.5 * BUSY
        task = crew.read(uid)
        assert (task.status, task.attempt, task.failures, task.crashes) == ("queued", 1, 0, 0)

    def test_a_handler_that_changes_the_signals_changes_no_later_stop(self, crew: Crew) -> None:
        [runner] = crew.start()
        [first] = crew.create("listens")
        assert crew.finished(first).status == "succeeded"
        [uid] = crew.create("nap", args={"seconds": 2})
        crew.running(uid)
        assert crew.stop(runner) == 0
        task = crew.read(uid)
        assert (task.status, task.crashes) == ("succeeded", 0)

    def test_what_was_handed_back_comes_first(self, crew: Crew, tmp_path: Path) -> None:
        [runner] = crew.start(grace=0)
        [first] = crew.create("note", args={"path": str(tmp_path / "runs"), "text": "first", "seconds": 3})
        crew.running(first)
        crew.create("note", count=5, args={"path": str(tmp_path / "runs"), "text": "later"})
        crew.stop(runner)
        crew.start()
        crew.finished(first)
        assert (tmp_path / "runs").read_text().splitlines()[1].startswith("first")

    def test_an_idle_runner_stops_within_two_seconds(self, crew: Crew) -> None:
        [runner] = crew.start()
        eventually(lambda: (crew.home / "runners").exists() and crew.log())
        began = time.monotonic()
        assert crew.stop(runner) == 0
        assert time.monotonic() - began < 2 * BUSY

    @pytest.mark.parametrize("left", ["thread", "process"])
    def test_a_runner_that_has_stopped_ends_in_spite_of_what_a_handler_has_left(self, crew: Crew, left: str) -> None:
        [runner] = crew.start()
        crew.finished(*crew.create(f"leaves.{left}"))
        assert crew.stop(runner) == 0
        assert "left-behind" in str(crew.log())
        assert list((crew.home / "runners").iterdir()) == []

    def test_a_handler_that_swallows_it_is_handed_back_too(self, crew: Crew) -> None:
        [runner] = crew.start(grace=0.2)
        [uid] = crew.create("stubborn", args={"seconds": 60})
        crew.running(uid)
        assert crew.stop(runner) == 0
        task = crew.read(uid)
        assert (task.status, task.attempt, task.failures, task.crashes) == ("queued", 1, 0, 0)


class TestWrongRedis:
    def test_a_runner_ends_with_words_and_touches_nothing(self, crew: Crew) -> None:
        Layout(crew.store._wire, name="billing", partitions=1).claim()
        [uid] = crew.create("echo")
        [runner] = crew.start(name="shop")
        assert runner.wait(20) == 1
        assert "holds the tasks of the installation 'billing', and this one is 'shop'" in str(crew.log())
        assert crew.read(uid).status == "queued" and crew.store.queues.consumers(0, ["default"]) == {}

    def test_so_does_one_that_started_while_it_was_away(self, folder: Path, tmp_path: Path) -> None:
        server = RedisServer(folder).start()
        store = Store(connect(server.url, SCRIPTS))
        Layout(store._wire, name="billing", partitions=1).claim()
        server.stop()
        crew = Crew(tmp_path, server.url, store)
        [runner] = crew.start(name="shop")
        try:
            eventually(lambda: "; trying again" in str(crew.log()))
            server.start()
            assert runner.wait(20) == 1
            assert list((crew.home / "runners").iterdir()) == []  # neighbours have nothing to take over
        finally:
            crew.kill_all()
            server.kill()
            store.close()


class TestHup:
    def test_a_runner_that_waits_for_redis_hears_it_too(
        self, folder: Path, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("CIRCUSCTL_ENDPOINT", raising=False)
        crew = Crew(tmp_path, f"unix://{folder}/nowhere", store)
        [runner] = crew.start()
        try:
            eventually(lambda: "; trying again" in str(crew.log()), 30)
            runner.send_signal(signal.SIGHUP)
            eventually(lambda: "HUP is ignored" in str(crew.log()))
            assert crew.stop(runner) == 0
        finally:
            crew.kill_all()

    def test_without_a_supervisor_it_is_ignored(self, crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CIRCUSCTL_ENDPOINT", raising=False)
        [runner] = crew.start()
        crew.finished(*crew.create("echo"))
        runner.send_signal(signal.SIGHUP)
        eventually(lambda: any(line["message"].startswith("HUP is ignored") for line in crew.log()))
        assert crew.finished(*crew.create("echo")).status == "succeeded"
        assert runner.poll() is None


class TestOutages:
    def test_tasks_go_on_by_themselves_after_redis_was_killed(
        self, mortal_crew: Crew, mortal_server: RedisServer
    ) -> None:
        crew, server = mortal_crew, mortal_server
        [runner] = crew.start()
        [during] = crew.create("sleep", args={"seconds": 1.5})
        crew.running(during)
        server.kill()
        time.sleep(2)  # the outage itself
        assert runner.poll() is None
        server.start("--appendfsync", "always")
        assert crew.finished(during, 10 * BUSY).status == "succeeded"
        [after] = crew.create("echo")
        assert crew.finished(after, 10 * BUSY).status == "succeeded"
        assert sum("Redis" in line["message"] for line in crew.log()) <= 3

    def test_a_frozen_redis_is_only_a_pause(self, crew: Crew, server: RedisServer) -> None:
        crew.start(2)
        uids = crew.create("sleep", count=20, args={"seconds": 0.2})
        server.freeze()
        time.sleep(2)  # the outage itself
        server.thaw()
        for uid in uids:
            task = crew.finished(uid, 30)
            assert (task.status, task.crashes) == ("succeeded", 0)
        eventually(crew.nothing_left)


class TestUnreadable:
    """A document that somebody breaks, and mends again: its entry stays, and another runner finds it too."""

    @staticmethod
    def complaints(crew: Crew, uid: str) -> list[str]:
        said = (line["message"] for line in crew.log() if line["level"] == "error")
        return [message for message in said if uid in message and "its entry stays in its queue" in message]

    def test_a_queued_task_keeps_its_entry(self, crew: Crew, server: RedisServer) -> None:
        [uid] = crew.create("echo")
        with server.client() as raw:
            whole = raw.getset(uid, b"{")
            [first] = crew.start(lease=2)
            [fine] = crew.create("echo")
            assert crew.finished(fine).status == "succeeded"
            eventually(lambda: self.complaints(crew, uid))
            assert crew.stop(first) == 0
            crew.start(lease=2)
            eventually(lambda: len(self.complaints(crew, uid)) == 2)
            assert raw.getset(uid, whole) == b"{"
        assert crew.finished(uid).status == "succeeded"
        assert eventually(crew.nothing_left)

    def test_a_running_task_is_interrupted_and_runs_again(
        self, crew: Crew, server: RedisServer, tmp_path: Path
    ) -> None:
        path = tmp_path / "noted"
        [uid] = crew.create("note", args={"path": str(path), "seconds": 3})
        crew.start(lease=2)
        crew.running(uid)
        with server.client() as raw:
            whole = raw.getset(uid, b"{")
            eventually(lambda: self.complaints(crew, uid))
            assert raw.getset(uid, whole) == b"{"
        task = crew.finished(uid, 20)
        assert (task.status, task.crashes, len(noted(path))) == ("succeeded", 0, 2)
        assert eventually(crew.nothing_left)
