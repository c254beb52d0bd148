"""Lines in files that several processes write."""

import fcntl
import json
import logging
import os
import pty
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from service.observe import log_file, logs, output
from service.observe.log_file import LogFile
from service.observe.logs import Line, LineHandler, Log, OncePerMinute
from service.runner.journal import Report
from service.tasks import moments, transitions
from service.tasks.context import Context
from service.tasks.document import QUEUED, Task, TaskError
from tests.servers import BUSY

WRITE = """
import json, sys
from pathlib import Path
from service.observe import log_file
log_file.LOOK_SECONDS = 0.0
file = log_file.LogFile(Path(sys.argv[1]), largest_bytes=20_000)
for number in range(500):
    file.write(json.dumps({"writer": sys.argv[2], "number": number, "filling": "x" * 100}).encode() + b"\\n")
"""


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield root
    root.handlers[:], logging.raiseExceptions = handlers, raising
    root.setLevel(level)


def test_lines_of_several_writers_are_whole_and_files_are_rolled(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    writers = [subprocess.Popen([sys.executable, "-c", WRITE, str(path), str(writer)]) for writer in range(3)]
    assert [writer.wait(30) for writer in writers] == [0, 0, 0]
    files = sorted(tmp_path.glob("x.log*"))
    assert 3 < len(files) <= 1 + log_file.KEPT_FILES + 1
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert all(line["filling"] == "x" * 100 for line in lines)
    assert all(file.stat().st_size < 25_000 for file in files)


LOG_IN_A_HANDLER = """
import random, signal, sys
from pathlib import Path
from service.observe import log_file
file = log_file.LogFile(Path(sys.argv[1]))
told = []
signal.signal(signal.SIGALRM, lambda *_: (told.append(1), file.look(), file.write(b"from the handler\\n")))
for number in range(1000):
    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 1e-4))
    while len(told) == number:
        file.look()
        file.write(b"whole\\n")
"""


def test_the_handler_of_a_signal_may_log(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    subprocess.run([sys.executable, "-c", LOG_IN_A_HANDLER, str(path)], timeout=60, check=True)
    lines = path.read_text().splitlines()
    assert lines.count("from the handler") == 1000
    assert set(lines) == {"whole", "from the handler"}


def test_a_log_that_was_moved_away_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "LOOK_SECONDS", 0.0)
    file = LogFile(tmp_path / "x.log")
    file.write(b"1\n")
    (tmp_path / "x.log").rename(tmp_path / "y.log")
    file.write(b"2\n")
    assert (tmp_path / "x.log").read_text() == "2\n"


def test_a_folder_that_is_gone_is_nobodys_problem(tmp_path: Path) -> None:
    LogFile(tmp_path / "gone" / "x.log").write(b"1\n")


def test_python_records_become_lines(tmp_path: Path) -> None:
    logger = logging.getLogger("test-of-logs")
    logger.propagate = False
    logger.addHandler(handler := LineHandler(Log(LogFile(tmp_path / "x.log")), "runner"))
    try:
        1 / 0  # noqa: B018 - for its traceback
    except ZeroDivisionError:
        logger.exception("went %s", "wrong", extra={"fields": {"uid": "u"}})
    logger.removeHandler(handler)
    [line] = map(json.loads, (tmp_path / "x.log").read_text().splitlines())
    assert (line["level"], line["message"], line["uid"]) == ("error", "went wrong", "u")
    assert "ZeroDivisionError" in line["traceback"] and line["process"].startswith("runner/")


class Mute:
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


@pytest.mark.parametrize(
    ("message", "arguments", "fields"),
    [
        (os.fsdecode(b"a file named \xff"), (), {"uid": "u"}),
        ("%d of %d", ("one",), {"uid": "u"}),
        ("no fields", (), ["uid"]),
        ("level", (), {"level": "gold", "uid": "u"}),
        ("keys", (), {1: 2, "uid": "u"}),
        ("mute", (), {"odd": Mute(), "uid": "u"}),
        ("%s of mute", (Mute(),), {"uid": "u"}),
    ],
)
def test_no_record_is_lost_whatever_is_in_it(tmp_path: Path, message: str, arguments: tuple[str], fields: Any) -> None:
    record = logging.LogRecord("l", logging.WARNING, "f", 1, message, arguments, None)
    record.fields = fields
    LineHandler(Log(LogFile(tmp_path / "x.log")), "runner").emit(record)
    [line] = map(json.loads, (tmp_path / "x.log").read_text().splitlines())
    assert line["message"].startswith(message) and line["level"] == "warning"
    assert isinstance(fields, list) or line["uid"] == "u"


def test_lines_know_the_task_that_runs_here(tmp_path: Path) -> None:
    outside = logs.about.set({"uid": "u"})
    LineHandler(Log(LogFile(tmp_path / "x.log")), "runner").emit(logging.makeLogRecord({"msg": "from a library"}))
    logs.about.reset(outside)
    assert json.loads((tmp_path / "x.log").read_text())["uid"] == "u"


def logged(tmp_path: Path, **words: Any) -> dict[str, Any]:
    """What a call of logging in a handler writes."""
    logger = logging.getLogger("of.a.handler")
    logger.propagate = False
    logger.handlers[:] = [handler := LineHandler(Log(LogFile(tmp_path / "x.log")), "runner")]
    handler.addFilter(OncePerMinute())
    outside = logs.about.set({"uid": "u", "type": "t"})
    logger.warning("%d rows", 7, **words)
    logs.about.reset(outside)
    found: dict[str, Any] = json.loads((tmp_path / "x.log").read_text())
    return found


def test_extras_of_a_call_are_in_its_line(tmp_path: Path) -> None:
    line = logged(tmp_path, extra={"month": "2026-10", "rows": 7, "parts": [1, {"a": None}]})
    assert (line["message"], line["uid"], line["month"], line["rows"]) == ("7 rows", "u", "2026-10", 7)
    assert line["parts"] == [1, {"a": None}]
    assert line.keys() == {"time", "level", "process", "logger", "message", "uid", "type", "month", "rows", "parts"}


def test_an_extra_that_has_the_name_of_a_field_gets_another_one(tmp_path: Path) -> None:
    line = logged(tmp_path, extra={"uid": "other", "type": "pdf", "level": "gold", "logger": "x", "time": 1})
    assert (line["uid"], line["type"], line["level"], line["logger"]) == ("u", "t", "warning", "of.a.handler")
    assert [line[name] for name in ("uid_", "type_", "level_", "logger_", "time_")] == ["other", "pdf", "gold", "x", 1]


def test_an_extra_that_is_not_json_is_shown_all_the_same_and_without_secrets(tmp_path: Path) -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    extra = {
        "price": Decimal("1.20"), "path": Path("/srv"), "odd": float("nan"), "raw": b"xyz", "mute": Mute(), "set": {1},
        "cycle": cycle, "surrogate": "\udcff", "once": [], "password": SECRET, "url": f"redis://:{SECRET}@h", 5: 6,
    }  # fmt: skip
    line = logged(tmp_path, extra=extra)
    assert (line["price"], line["path"], line["odd"], line["raw"]) == ("1.20", "/srv", "nan", "<3 bytes>")
    assert "Mute" in line["mute"] and line["set"] == [1] and line["5"] == 6
    assert (line["password"], line["url"]) == ("[removed]", "redis://[removed]@h")


def test_the_logger_of_a_context_keeps_extras(tmp_path: Path) -> None:
    context = Context(Task(uid="u", type="t", queue="q", status=QUEUED, created_at=moments.stamp(0), attempt=2))
    handler = LineHandler(Log(LogFile(tmp_path / "x.log")), "runner")
    context.logger.logger.addHandler(handler)
    context.logger.error("odd", extra={"month": "2026-10"})
    context.logger.logger.removeHandler(handler)
    line = json.loads((tmp_path / "x.log").read_text())
    assert (line["month"], line["uid"], line["attempt"]) == ("2026-10", "u", 2)


def test_a_full_disk_tears_no_line_but_the_one_that_did_not_fit(tmp_path: Path) -> None:
    call = """
import resource, signal, sys
from pathlib import Path
from service.observe.log_file import LogFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = LogFile(Path(sys.argv[1]))
for limit, count in ((250, 5), (resource.RLIM_INFINITY, 2)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for number in range(count):
        file.write(b"x" * 99 + b"\\n")
"""
    subprocess.run([sys.executable, "-c", call, str(tmp_path / "x.log")], check=True)
    assert [len(line) for line in (tmp_path / "x.log").read_text().split()] == [99, 99, 50, 99, 99]


def test_a_log_that_cannot_be_rolled_is_written_on(tmp_path: Path) -> None:
    (tmp_path / "x.lock").mkdir()
    file = LogFile(tmp_path / "x.log", largest_bytes=1)
    file.write(b"one\n")
    file._looked = -10.0
    file.write(b"two\n")
    assert (tmp_path / "x.log").read_text() == "one\ntwo\n"


def test_whoever_holds_the_lock_of_a_log_holds_up_nobody_and_others_cannot_hold_it(tmp_path: Path) -> None:
    """Such as a process that was stopped while it moved the file aside."""
    lock = tmp_path / "x.lock"
    lock.touch()
    file = LogFile(tmp_path / "x.log", largest_bytes=1)
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        for line in (b"one\n", b"two\n"):
            file._looked = -10.0
            writer = threading.Thread(target=file.write, args=[line], daemon=True)
            writer.start()
            writer.join(10 * BUSY)
            assert not writer.is_alive()
    file._looked = -10.0
    file.write(b"three\n")
    assert (tmp_path / "x.log.1").read_text() == "one\ntwo\n"
    assert lock.stat().st_mode & 0o777 == 0o600


def test_no_line_goes_to_a_socket_that_has_got_the_number_of_a_log_which_somebody_closed(tmp_path: Path) -> None:
    """Such as a handler that closes all descriptors, and then a connection to Redis."""
    file = LogFile(tmp_path / "x.log")
    file.write(b"one\n")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        number = file.descriptor
        os.dup2(ours.fileno(), number)
        file.write(b"two\n")
        os.write(number, b"a command")
        assert theirs.recv(100) == b"a command"
        os.close(number)
    file.write(b"three\n")
    assert (tmp_path / "x.log").read_text() == "one\ntwo\nthree\n"


CLIENTS_OF_A_WEB_WORKER = """
import fcntl, sys
from pathlib import Path
from service.observe.log_file import LogFile

folder = Path(sys.argv[1])
file = LogFile(folder / "x.log", largest_bytes=1)
file.write(b"one\\n")

from gevent import joinall, monkey, spawn

monkey.patch_all()
held = (folder / "x.lock").open("w")
fcntl.flock(held, fcntl.LOCK_SH)
file._looked = -10.0
joinall([spawn(file.write, b"two\\n"), spawn(file.write, b"three\\n")])
"""


def test_clients_of_a_web_worker_do_not_hold_up_one_another_at_the_lock_of_a_log(tmp_path: Path) -> None:
    """Whoever waits for it holds a lock of the process, too."""
    subprocess.run([sys.executable, "-c", CLIENTS_OF_A_WEB_WORKER, str(tmp_path)], check=True, timeout=20 * BUSY)
    assert sorted((tmp_path / "x.log").read_text().split()) == ["one", "three", "two"]


def test_a_process_goes_on_when_nobody_reads_its_terminal(tmp_path: Path) -> None:
    """A terminal may say that it has room, and yet not take a whole line."""
    master, slave = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", PRINT, str(tmp_path)], stdout=slave, stderr=slave)
    os.close(slave)
    try:
        assert process.wait(30) == 1
    finally:
        process.kill()
        os.close(master)
    assert (tmp_path / "test.log").read_text().count("warning ") == 3000


def test_what_may_come_in_storms_comes_once_a_minute(tmp_path: Path, root: logging.Logger) -> None:
    logs.configure("test", tmp_path)
    for _ in range(100):
        logging.getLogger("sandbox").warning("Redis is away", extra={"once": "store"})
        logging.getLogger("sandbox").info("every time")
    lines = (tmp_path / "test.log").read_text()
    assert (lines.count("Redis is away"), lines.count("every time")) == (1, 100)


def test_lines_of_single_tasks_are_not_for_the_terminal(
    tmp_path: Path, root: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(output, "_terminal", writing)
    logs.configure("test", tmp_path)
    logging.getLogger(logs.OF_ONE_TASK).error("an attempt failed")
    logging.getLogger("sandbox").error("Redis is away")
    shown = os.read(reading, 65536).decode()
    os.close(reading)
    os.close(writing)
    assert "Redis is away" in shown and "an attempt failed" not in shown
    assert "an attempt failed" in (tmp_path / "test.log").read_text()


def test_and_again_in_the_next_minute() -> None:
    once = OncePerMinute(seconds=0.0)
    record = logging.makeLogRecord({"once": "x"})
    assert once.filter(record) and once.filter(record)


def test_marks_of_former_minutes_are_forgotten_when_they_become_many() -> None:
    once, record = OncePerMinute(), logging.makeLogRecord({"once": "now"})
    once._last = {f"long ago {number}": -100.0 for number in range(1000)}
    assert once.filter(record)
    assert set(once._last) == {"now"}
    assert not once.filter(record)


class Request(Line):
    method: str
    path: str
    status: int
    remote: str


class Outcome(Line):
    message: str
    uid: str
    error: TaskError


def test_lines_for_people_hold_the_same_and_a_traceback_below(tmp_path: Path) -> None:
    log = Log(LogFile(tmp_path / "x.log"), "info", "text")
    log.write([Request("t", "info", "web/1", "GET", "/a b", 200, "")])
    log.write_record({"time": "t", "level": "error", "process": "p", "message": "oh", "n": [1], "traceback": "T\n  x"})
    log.write([Outcome("t", "warning", "runner/1", "task", "u", TaskError("E", 'no "x" there', "e"))])
    assert (tmp_path / "x.log").read_text() == (
        't web/1 info method=GET path="/a b" status=200\nt p error oh n=[1]\n    T\n      x\n'
        't runner/1 warning task uid=u error=e\n    E: no "x" there\n'
    )


FORGED = "2026-11-26T10:00:00Z web/1 info method=DELETE"
ENDS_OF_LINES = ("\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028")


def write_hostile(text: str, handler: logging.Handler) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        record = logging.LogRecord("l", logging.WARNING, "f", 1, "from a client: %s", (text,), sys.exc_info())
    record.fields = {"path": text, "nested": [{text: text}]}
    handler.emit(record)


@pytest.mark.parametrize("end", ENDS_OF_LINES)
def test_what_a_client_sends_forges_no_line_for_people_and_does_not_speak_to_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(output, "_terminal", writing)
    text = f"x{end}{FORGED}\x1b[2J\x9b2J\x07\u202e\ttab"
    log = Log(LogFile(tmp_path / "x.log"), "info", "text")
    write_hostile(text, LineHandler(log, "p"))
    write_hostile(text, output.Terminal())
    log.write([Request("t", "info", "web/1", "GET", text, 200, "")])
    log.write([Outcome("t", "info", "p", "task", "u", TaskError(text, text))])
    on_the_terminal = os.read(reading, 65536).decode()
    os.close(reading)
    os.close(writing)
    for shown, entries in ((on_the_terminal, 1), ((tmp_path / "x.log").read_bytes().decode(), 3)):
        assert FORGED in shown
        assert len([line for line in shown.split("\n") if line and not line.startswith("    ")]) == entries
        assert not [each for each in shown if not each.isprintable() and each != "\n"]
    assert "\\x1b[2J\\x9b2J\\x07\\u202e" in (tmp_path / "x.log").read_text()


@pytest.mark.parametrize("format", ["json", "text"])
@pytest.mark.parametrize(("level", "kept"), [("debug", 6), ("info", 5), ("warning", 4), ("error", 2)])
def test_what_is_too_unimportant_is_not_written(tmp_path: Path, level: str, kept: int, format: str) -> None:
    log = Log(LogFile(tmp_path / "x.log"), level, format)
    log.write([Line("t", level, "p") for level in ("info", "warning", "error")])
    logger = logging.getLogger("unimportant")
    logger.propagate = False
    logger.setLevel("DEBUG")  # as a library may
    logger.handlers[:] = [LineHandler(log, "p")]
    for number in (logging.DEBUG, logging.WARNING, logging.ERROR):
        logger.log(number, "x")
    assert len((tmp_path / "x.log").read_text().splitlines()) == kept


def test_lines_of_levels_without_a_name_are_lines_of_the_next_one_below(tmp_path: Path, root: logging.Logger) -> None:
    logs.configure("test", tmp_path, "info", "text")
    for level in (5, 15, 25, 30, 45, 99):
        logging.getLogger("x").handle(logging.LogRecord("x", level, "f", 1, "of %d", (level,), None))
    said = [line.split(" ", 2)[2] for line in (tmp_path / "test.log").read_text().splitlines()]
    assert said == [
        "info of 25 logger=x", "warning of 30 logger=x", "error of 45 logger=x", "critical of 99 logger=x",
    ]  # fmt: skip


PRINT = """
import os, subprocess, sys
from pathlib import Path
from service.observe import log_file, logs, output
output.keep_output("test", Path(sys.argv[1]))
logs.configure("test", Path(sys.argv[1]))
print("printed")
subprocess.run(["echo", "by a child"])
os.write(2, b"by C code\\n")
import logging
for number in range(3000):
    logging.warning("warning %d %s", number, "x" * 100)
raise RuntimeError("the end")
"""


def test_a_process_goes_on_when_nobody_reads_its_output_and_what_it_prints_is_kept(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PRINT, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.wait(30) == 1  # its pipes have been full for long
    assert (tmp_path / "test.out").read_text().splitlines() == ["printed", "by a child", "by C code"]
    logged = (tmp_path / "test.log").read_text()
    assert logged.count("warning ") == 3000 and "RuntimeError: the end" in logged
    assert process.stderr is not None and process.stdout is not None
    assert process.stderr.read().startswith(b"20")
    process.stderr.close()
    process.stdout.close()


def test_a_process_goes_on_when_its_terminal_is_gone(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()\n" + PRINT, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    for pipe in (process.stdout, process.stderr, process.stdin):
        assert pipe is not None
        pipe.close()
    assert process.wait(30) == 1
    assert (tmp_path / "test.log").read_text().count("warning ") == 3000


def test_what_others_write_is_kept_small_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "caretaker", log_file.Caretaker())
    (tmp_path / "redis.log").write_bytes(b"x" * 100)
    log_file.caretaker.keep_small(tmp_path / "redis.log")
    log_file.caretaker.look()
    assert (tmp_path / "redis.log").exists()
    monkeypatch.setattr(LogFile, "_is_too_large", lambda file: file._path.name == "redis.log")
    log_file.caretaker.look()
    assert not (tmp_path / "redis.log").exists() and (tmp_path / "redis.log.1").exists()


CHATTER = """
import sys
from pathlib import Path
from service.observe import log_file, logs, output
log_file.LogFile.__init__.__defaults__ = (10_000,)
output.keep_output("test", Path(sys.argv[1]))
logs.configure("test", Path(sys.argv[1]), "warning")
for number in range(200):
    print("x" * 999)
    log_file.caretaker.look()
"""


def test_what_is_printed_is_kept_small_while_nothing_is_logged_and_by_whoever_it_was_moved(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", CHATTER, str(tmp_path)]) for _ in range(2)]
    assert [writer.wait(30) for writer in writers] == [0, 0]
    sizes = [file.stat().st_size for file in tmp_path.glob("test.out*")]
    assert len(sizes) == 1 + log_file.KEPT_FILES and max(sizes) < 15_000


def test_who_writes_on_into_a_file_that_was_moved_aside_does_not_fill_the_disk(tmp_path: Path) -> None:
    """As a program that a handler has started, and an attempt in a process of its own, whose prints go there."""
    path = tmp_path / "x.out"
    printed = os.open(os.devnull, os.O_WRONLY)
    file = LogFile(path, largest_bytes=1000, stands_for=(printed,))
    file.look()
    with path.open("ab", buffering=0) as old:
        for number in range(105):
            old.write(b"%0100d" % number)
            file.look()
            file.write(b"new\n")
            assert sum(each.stat().st_size for each in tmp_path.glob("x.out*")) < 4000
    aside = [each for each in tmp_path.glob("x.out.*") if each.stat().st_size]
    os.close(printed)
    assert len(aside) == 1 and aside[0].read_bytes().endswith(b"%0100d" % 104)
    assert b"x.out.1 still grew after its turn: emptied" in b"".join(each.read_bytes() for each in tmp_path.glob("x*"))


def test_a_log_that_no_program_inherits_is_never_emptied(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    file = LogFile(path, largest_bytes=1000)
    file.look()
    with path.open("ab", buffering=0) as late:
        for _ in range(30):
            late.write(b"x" * 100)
            file.look()
    assert (tmp_path / "x.log.1").stat().st_size == 3000


def test_what_was_moved_aside_stays_whole_however_large_it_is(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "x.out", largest_bytes=1000)
    file.write(b"x" * 9999 + b"\n")
    for _ in range(3):
        file.look()
    assert (tmp_path / "x.out.1").stat().st_size == 10_000


def test_a_file_that_was_moved_away_is_let_go_when_nothing_is_written(tmp_path: Path, root: logging.Logger) -> None:
    logs.configure("test", tmp_path)
    log_file.caretaker.look()
    (tmp_path / "test.log").rename(tmp_path / "old.log")
    log_file.caretaker.look()
    held = [link for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert not [link for link in held if link.samefile(tmp_path / "old.log")]
    assert [link for link in held if link.samefile(tmp_path / "test.log")]


def test_a_look_at_a_folder_that_is_gone_is_nobodys_problem(tmp_path: Path, root: logging.Logger) -> None:
    logs.configure("test", tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    log_file.caretaker.look()


FORK = """
import os, signal, sys
from pathlib import Path
from service.observe import log_file, logs, output
file = log_file.LogFile(Path(sys.argv[1]))
with file._lock:  # as another thread may do at this moment
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        file.write(b"child\\n")
        os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_does_not_wait_for_a_thread_that_it_has_not(tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", FORK, str(tmp_path / "x.log")]).returncode == 0
    assert (tmp_path / "x.log").read_text() == "child\n"


SECRET = "hunter2-x9"


def test_neither_file_nor_terminal_tells_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(output, "_terminal", writing)
    terminal = output.Terminal()
    terminal.setFormatter(logging.Formatter("%(message)s"))
    try:
        raise ValueError(f"no answer from postgres://me:{SECRET}@db/x")
    except ValueError:
        record = logging.LogRecord("l", logging.ERROR, "f", 1, "with password=%s", (SECRET,), sys.exc_info())
    record.fields = {
        "api_key": SECRET, "url": f"http://a:{SECRET}@b/", "uid": "u", "attempt": 2,
        "headers": {"Authorization": SECRET}, "why": OSError(f"redis://:{SECRET}@host"),
    }  # fmt: skip
    LineHandler(Log(LogFile(tmp_path / "x.log")), "runner").emit(record)
    terminal.emit(record)
    shown = os.read(reading, 65536).decode()
    os.close(reading)
    os.close(writing)
    text = (tmp_path / "x.log").read_text()
    line = json.loads(text)
    assert SECRET not in text and SECRET not in shown
    assert line["message"] == "with password=[removed]" and (line["uid"], line["attempt"]) == ("u", 2)
    assert line["traceback"].splitlines()[-1] == "ValueError: no answer from postgres://[removed]@db/x"
    assert shown.startswith("with password=[removed]\n    Traceback") and "test_logs.py" in shown


@pytest.mark.parametrize("line", ["x\n", "x"])
def test_of_a_long_traceback_the_end_is_kept(tmp_path: Path, line: str) -> None:
    try:
        raise ValueError(line * 40_000 + "the end")
    except ValueError:
        record = logging.LogRecord("l", logging.ERROR, "f", 1, "m", (), sys.exc_info())
    LineHandler(Log(LogFile(tmp_path / "x.log")), "runner").emit(record)
    traceback = json.loads((tmp_path / "x.log").read_text())["traceback"]
    assert traceback.endswith(f"{line}the end") and 30_000 < len(traceback) <= logs.LONGEST_TEXT


def test_an_outcome_tells_no_secret(tmp_path: Path) -> None:
    new = Task(uid="0" * 64, type="echo", queue="default", status=QUEUED, created_at=moments.stamp(1e9))
    error = TaskError(type="E", message=f"token={SECRET} was refused", event_id="e")
    failed = transitions.failed(new, error, moments.stamp(1e9), moments.stamp(1e9 + 1), 1.0)
    Report(Log(LogFile(tmp_path / "x.log"))).outcomes([failed])
    line = json.loads((tmp_path / "x.log").read_text())
    assert line["error"] == {"type": "E", "message": "token=[removed] was refused", "event_id": "e"}
    assert failed.error == error
