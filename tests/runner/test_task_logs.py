"""What an attempt says is kept with its task."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.store import Store
from service.tasks import transitions
from service.tasks.lines import LINE_LIMIT, MOST_BYTES, MOST_LINES, Unstored
from service.tasks.moments import stamp
from tests.runner.crew import Crew
from tests.servers import BUSY, RedisServer, eventually

NOW = stamp(1_700_000_000.0)
TASKS = "tests.runner.talking"


def lines(crew: Crew, uid: str) -> list[tuple[str, str]]:
    return [(line.level, line.text) for line in crew.store.logbook.read(uid).lines]


def texts(crew: Crew, uid: str) -> list[str]:
    return [text for _, text in lines(crew, uid)]


# --- what is said until it is stored ---------------------------------------------------------------


def said(count: int, text: str = "line") -> Unstored:
    unstored = Unstored(1)
    for number in range(count):
        unstored.add("info", f"{text} {number}")
    return unstored


def test_what_was_taken_is_given_again_until_it_is_stored() -> None:
    unstored = said(2)
    first = unstored.take(str)
    unstored.add("info", "more")
    assert first is not None and unstored.take(str) is first
    unstored.done(first)
    second = unstored.take(str)
    assert second is not None and (len(first.lines), len(second.lines), second.skipped) == (2, 1, 0)
    unstored.done(first)
    assert unstored.take(str) is second
    unstored.done(second)
    assert unstored.take(str) is None


def test_a_flood_leaves_the_newest_lines_and_a_count() -> None:
    portion = said(MOST_LINES + 500).take(str)
    assert portion is not None and (len(portion.lines), portion.skipped) == (MOST_LINES, 500)
    assert f"line {MOST_LINES + 499}".encode() in portion.lines[-1]
    large = said(1000, "x" * LINE_LIMIT).take(str)
    assert large is not None and sum(map(len, large.lines)) <= MOST_BYTES
    assert len(large.lines) + large.skipped == 1000


def test_only_lines_that_stay_are_cleaned() -> None:
    cleaned: list[str] = []
    said(5000).take(lambda text: cleaned.append(text) or text)
    assert len(cleaned) <= MOST_LINES


def test_a_line_is_cut_and_always_text() -> None:
    unstored = said(0)
    unstored.add("info", "y" * 100_000 + "\ud800")
    unstored.add("info", "\ud800")
    portion = unstored.take(str)
    assert portion is not None and len(portion.lines[0]) < LINE_LIMIT + 100 and b'"?"' in portion.lines[1]


# --- a handler ---------------------------------------------------------------------------------------


def test_all_that_an_attempt_says_is_in_its_log(crew: Crew) -> None:
    crew.start(tasks=TASKS)
    [uid] = crew.create("talk")
    crew.finished(uid)
    assert lines(crew, uid) == [
        ("info", "hello"),
        ("warning", "by context.logger"),
        ("info", "by their own logger"),
        ("info", "from a thread"),
    ]


def test_lanes_that_are_threads_do_not_mix_up_their_logs(crew: Crew) -> None:
    crew.start(tasks=TASKS, threads=4)
    uids = [crew.create("talk", args={"text": f"I am {number}"})[0] for number in range(20)]
    for number, uid in enumerate(uids):
        crew.finished(uid)
        assert texts(crew, uid) == [f"I am {number}", "by context.logger", "by their own logger", "from a thread"]


def test_lines_are_there_while_the_task_runs(crew: Crew) -> None:
    crew.start(tasks=TASKS)
    [uid] = crew.create("talk.long")
    assert eventually(lambda: texts(crew, uid)) == ["begun"]
    assert not crew.read(uid).finished
    crew.store.change(uid, lambda task: transitions.cancelled(task, NOW))


def test_secrets_are_removed(crew: Crew) -> None:
    crew.start(tasks=TASKS)
    [uid] = crew.create("talk", args={"text": "password=hunter2 of https://ann:hunter2@example.org/"})
    crew.finished(uid)
    assert texts(crew, uid)[0] == "password=[removed] of https://[removed]@example.org/"


def test_what_a_type_calls_secret_is_in_no_log(crew: Crew) -> None:
    crew.start(tasks=TASKS)
    [uid] = crew.create("keep.secret", args={"password": "open sesame", "more": [1234, 5]}, max_attempts=1)
    done = crew.finished(uid)
    assert done.error is not None and done.error.message == "error [removed] [[removed], 5]"
    assert b'"signs in with [removed]"' in bytes(done.progress)
    said = texts(crew, uid)
    assert said[:3] == ["log [removed]", "logger [removed] [[removed], 5]", "[removed] [removed] 5"]
    written = (crew.home / "log" / "runner.log").read_text()
    assert "logger [removed] [[removed], 5]" in written
    for secret in ("sesame", "1234]", "[1234"):
        assert secret not in written and secret not in "".join(said)


def test_a_secret_of_many_lines_is_in_no_line_and_in_no_message(crew: Crew) -> None:
    crew.start(tasks=TASKS)
    [uid] = crew.create("keep.key", args={"key": 'open "sesame"\n  \\sesame, too\n'}, max_attempts=1)
    done = crew.finished(uid)
    assert done.error is not None
    assert done.error.message == "Command '['sh', '-c', 'exit 3', '[removed]']' returned non-zero exit status 3."
    said = texts(crew, uid)
    assert said[:2] == ["[removed]", "  [removed]"]
    assert "sesame" not in "".join(said) + (crew.home / "log" / "runner.log").read_text()


def test_a_secret_that_is_longer_than_a_line_may_be_is_not_told_by_half(crew: Crew) -> None:
    crew.start(tasks=TASKS)
    [uid] = crew.create("keep.key", args={"key": "open sesame " * 2000}, max_attempts=1)
    crew.finished(uid)
    said = texts(crew, uid)
    assert said[0] == "[removed]" and "sesame" not in "".join(said)


def test_each_attempt_says_what_it_did_and_why_it_failed(crew: Crew, store: Store) -> None:
    crew.start(tasks=TASKS)
    [uid] = crew.create("talk.and_fail", max_attempts=2)
    crew.finished(uid, 20.0)
    logged = store.logbook.read(uid).lines
    assert [(line.attempt, line.level) for line in logged] == [
        (1, "info"), (1, "warning"), (2, "info"), (2, "error"),
    ]  # fmt: skip
    assert "talk_and_fail" in logged[-1].text and "hunter2" not in logged[-1].text
    outcomes = [(attempt.attempt, attempt.outcome) for attempt in store.logbook.attempts(uid)[1]]
    assert outcomes == [(1, "retried"), (2, "failed")]


def test_a_killed_runner_loses_its_last_moment_at_most(crew: Crew, store: Store) -> None:
    crew.start(2, tasks=TASKS)
    [uid] = crew.create("talk.and_die")
    assert crew.finished(uid, 20.0).status == "succeeded"
    assert texts(crew, uid) == ["last words", "last words"]
    first, second = store.logbook.attempts(uid)[1]
    assert (first.outcome, second.outcome) == ("crashed", "succeeded")
    assert first.runner != second.runner and first.runner is not None


def test_a_task_that_is_handed_back_tells_of_it(crew: Crew, store: Store) -> None:
    [first] = crew.start(tasks=TASKS, grace=0)
    [uid] = crew.create("talk.long", args={"seconds": 0.5})
    eventually(lambda: texts(crew, uid) == ["begun"])
    crew.stop(first)
    crew.start(tasks=TASKS)
    crew.finished(uid)
    outcomes = [attempt.outcome for attempt in store.logbook.attempts(uid)[1]]
    assert outcomes in (["handed_back", "succeeded"], ["succeeded"])


def test_a_flood_hurts_nobody(crew: Crew, server: RedisServer) -> None:
    crew.start(2, tasks=TASKS)
    [uid] = crew.create("flood", args={"seconds": 3.0})
    eventually(lambda: texts(crew, uid))
    [other] = crew.create("talk")
    crew.finished(other, 10.0 * BUSY)
    count = crew.finished(uid, 10.0 * BUSY).result
    logged = crew.store.logbook.read(uid)
    assert (len(logged.lines), logged.last) == (MOST_LINES, int(bytes(count)))
    assert logged.dropped == logged.last - MOST_LINES > 10_000


# --- programs ----------------------------------------------------------------------------------------


def run(crew: Crew, words: list[str], **args: Any) -> Any:
    [uid] = crew.create("program", args={"words": words} | args, max_attempts=1)
    return crew.finished(uid), texts(crew, uid)


def test_a_programs_output_is_the_log(crew: Crew) -> None:
    crew.start(tasks=TASKS)
    done, said = run(crew, ["sh", "-c", "echo one; echo two >&2; printf 'last'; exit 3"], check=False)
    assert done.status == "succeeded" and bytes(done.result) == b'{"returncode":3,"stdout":"one\\ntwo\\nlast"}'
    assert said == ["one", "two", "last"]
    done, said = run(crew, ["sh", "-c", "echo no; exit 3"])
    assert (done.status, done.error.type) == ("failed", "CalledProcessError")
    assert said[0] == "no"
    done, _ = run(crew, ["/no/such/program"])
    assert (done.status, done.error.type) == ("failed", "FileNotFoundError")


def test_odd_output_becomes_lines(crew: Crew) -> None:
    crew.start(tasks=TASKS)
    script = r"printf 'ok\r\n10%%\r20%%\r\n\377\n'; echo password=hunter2; yes | head -c 100000 | tr -d '\n'"
    done, said = run(crew, ["sh", "-c", script])
    assert done.status == "succeeded"
    assert said[:4] == ["ok", "20%", "\N{REPLACEMENT CHARACTER}", "password=[removed]"]
    assert len(said[4]) == LINE_LIMIT + 1 and len(said) == 5


def test_of_a_line_that_is_written_over_the_last_state_stays_however_often(crew: Crew) -> None:
    crew.start(tasks=TASKS)
    script = r"for i in $(seq 800); do printf '\r%4d of 800 ...........' $i; done; sleep 0.3; printf '\r\n'; echo next"
    _, said = run(crew, ["sh", "-c", script])
    assert said == [" 800 of 800 ...........", "next"]


def test_a_private_key_is_no_line(crew: Crew) -> None:
    crew.start(tasks=TASKS)
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAK\n-----END RSA PRIVATE KEY-----\nafter"
    _, said = run(crew, ["echo", key])
    assert said == ["[removed]"] * 4 + ["after"]


def test_what_a_program_leaves_ends_with_it(crew: Crew, tmp_path: Path) -> None:
    crew.start(tasks=TASKS)
    pid = tmp_path / "pid"
    began = time.monotonic()
    done, _ = run(crew, ["sh", "-c", f"sleep 60 & echo $! > {pid}"])
    assert done.status == "succeeded" and time.monotonic() - began < 5 * BUSY
    eventually(lambda: not alive(int(pid.read_text())))


def test_a_programs_own_time_out(crew: Crew) -> None:
    crew.start(tasks=TASKS)
    done, _ = run(crew, ["sleep", "60"], timeout=0.2)
    assert (done.status, done.error.type) == ("failed", "TimeoutExpired")


def test_what_it_does_with_the_output_is_not_up_to_the_handler(crew: Crew) -> None:
    crew.start(tasks=TASKS)
    [uid] = crew.create("program.odd")
    told = bytes(crew.finished(uid).result).decode()
    assert "a list of words" in told and "leave out stdout" in told and "leave out shell" in told


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


ENDS: dict[str, tuple[dict[str, Any], Callable[[Crew, str], object]]] = {
    "cancel": ({}, lambda crew, uid: crew.store.change(uid, lambda task: transitions.cancelled(task, NOW))),
    "time-out": ({"timeout": 1.0, "max_attempts": 1}, lambda crew, uid: None),
    "stop": ({}, lambda crew, uid: crew.stop(crew.runners[0])),
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("end", ENDS)
def test_a_program_ends_with_its_attempt(crew: Crew, tmp_path: Path, end: str, threads: int) -> None:
    """With its child; in the main thread, and in a lane that is another thread."""
    fields, do = ENDS[end]
    crew.start(tasks=TASKS, threads=threads, grace=0)
    files = [tmp_path / f"pids{number}" for number in range(threads)]
    uids = [crew.create("program.long", args={"pids": str(file)}, **fields)[0] for file in files]
    for file in files:
        eventually(file.exists)
    pids = [int(word) for file in files for word in file.read_text().split()]
    assert len(pids) == 2 * threads
    for uid in uids:
        do(crew, uid)
    eventually(lambda: not any(map(alive, pids)), 10.0 * BUSY)
    eventually(lambda: all(Path(f"{file}.over").exists() for file in files))
    if end != "stop":
        assert {crew.finished(uid).status for uid in uids} <= {"cancelled", "failed"}
    assert all("running" in texts(crew, uid) for uid in uids)


@pytest.mark.parametrize(("seconds", "status"), [(0, "succeeded"), (60, "cancelled")])
def test_a_program_that_a_thread_of_the_handler_runs_ends_with_the_attempt(
    crew: Crew, tmp_path: Path, seconds: float, status: str
) -> None:
    [runner] = crew.start(tasks=TASKS)
    [uid] = crew.create("program.beside", args={"pid": str(tmp_path / "pid"), "seconds": seconds})
    eventually((tmp_path / "pid").exists)
    pid = int((tmp_path / "pid").read_text())
    if seconds:
        ENDS["cancel"][1](crew, uid)
    assert crew.finished(uid).status == status
    eventually((tmp_path / "pid.over").exists, 10.0 * BUSY)
    later = [int(file.read_text()) for file in tmp_path.glob("pid.[12]")]
    assert not any(map(alive, [pid, *later]))
    assert runner.poll() is None
