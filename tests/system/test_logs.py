"""The logs of a whole service: from a request to its task's lines, and what is only printed."""

import http.client
import json
import os
import pty
import re
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.servers import eventually
from tests.system.instance import ROOT, SANDBOX, Instance

MODULE = """
from service import task

print("printed while it is imported")

@task("talk")
def talk(context, message: str = ""):
    print("printed by a task", flush=True)
    context.logger.warning("logged by a task")
"""


def lines(instance: Instance, kind: str) -> list[dict[str, Any]]:
    path = instance.home / "log" / f"{kind}.log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def lines_of(instance: Instance, uid: str) -> list[dict[str, Any]]:
    return [line for line in lines(instance, "runner") if line.get("uid") == uid]


def post(instance: Instance, type: str, request_id: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=10)
    headers = {"Content-Type": "application/json", "X-Request-ID": request_id}
    connection.request("POST", "/tasks", json.dumps({"type": type}), headers)
    task = json.loads(connection.getresponse().read())
    connection.close()
    return str(task["uid"])


def talking(make_instance: Callable[..., Instance], **variables: str) -> Instance:
    instance = make_instance(SANDBOX_TASKS="talks", **variables)
    (instance.home.parent / "talks.py").write_text(MODULE)
    return instance.started()


NOISY = """
from service import task

@task("noisy")
def noisy(context):
    context.logger.warning("x" * 150)
"""


def test_a_request_id_leads_from_the_request_to_the_tasks_lines(make_instance: Callable[..., Instance]) -> None:
    instance = talking(make_instance)
    uid = post(instance, "talk", "from-nginx-1")
    eventually(lambda: instance.succeeded(uid))
    assert instance.task(uid)["request_id"] == "from-nginx-1"
    eventually(lambda: len(lines_of(instance, uid)) == 2)
    said = lines_of(instance, uid)
    assert {line["message"] for line in said} == {"task", "logged by a task"}
    assert {line["request_id"] for line in said} == {"from-nginx-1"}
    [request] = [line for line in lines(instance, "web") if line.get("request_id") == "from-nginx-1"]
    assert (request["method"], request["path"], request["status"]) == ("POST", "/tasks", 201)


def test_what_is_printed_is_kept_by_kind_of_process(make_instance: Callable[..., Instance]) -> None:
    instance = talking(make_instance)
    uid = post(instance, "talk", "x")
    eventually(lambda: instance.succeeded(uid))
    printed = (instance.home / "log" / "runner.out").read_text()
    assert "printed while it is imported\n" in printed and "printed by a task\n" in printed
    assert "printed while it is imported\n" in (instance.home / "log" / "web.out").read_text()
    assert "logged by a task" in instance.output  # a warning: for the terminal too


def test_tasks_that_print_go_on_after_the_supervisor_and_its_terminal_are_gone(
    make_instance: Callable[..., Instance],
) -> None:
    instance = talking(make_instance)
    os.kill(instance.pid, signal.SIGKILL)
    instance.wait()
    uids = [post(instance, "talk", "y") for _ in range(20)]
    eventually(lambda: all(map(instance.succeeded, uids)))


def test_lines_for_people_and_only_what_is_important(make_instance: Callable[..., Instance]) -> None:
    instance = talking(make_instance, SANDBOX_LOG_FORMAT="text", SANDBOX_LOG_LEVEL="warning")
    uid = post(instance, "talk", "z")
    eventually(lambda: instance.succeeded(uid))
    log = instance.home / "log" / "runner.log"
    [line] = eventually(lambda: log.read_text().splitlines())
    assert re.fullmatch(rf"\S+Z runner/\d+ warning logged by a task .*uid={uid}.* request_id=z", line)
    assert not _has_requests(instance.home / "log" / "web.log")


def test_files_that_were_moved_away_are_made_anew_by_processes_that_log_nothing(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance(SANDBOX_LOG_LEVEL="error", STATSD_HOST="127.0.0.1").started()
    log = instance.home / "log"
    files = eventually(lambda: found if len(found := _files_of_processes(log)) == 6 else None)
    for file in files:
        file.rename(log / f"{file.name}.moved")
    eventually(lambda: _files_of_processes(log) == files)


def _files_of_processes(log: Path) -> set[Path]:
    return {file for kind in ("web", "runner", "observer") for file in log.glob(f"{kind}.???")}


def _has_requests(log: Path) -> bool:
    return log.exists() and "method=" in log.read_text()


def test_why_a_runner_cannot_start_stands_in_its_log_and_on_the_terminal(
    make_instance: Callable[..., Instance],
) -> None:
    refused = make_instance(SANDBOX_TASKS="no.such").run(*SANDBOX, "runner")
    assert refused.returncode == 1 and "SANDBOX_TASKS is 'no.such'" in refused.stderr


def test_a_terminal_that_nobody_reads_holds_up_neither_tasks_nor_the_stop(
    make_instance: Callable[..., Instance], tmp_path: Path
) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    instance = make_instance(SANDBOX_TASKS="service.builtin.demo,noisy", PYTHONPATH=f"{ROOT}:{tmp_path}")
    master, slave = pty.openpty()
    os.set_blocking(slave, False)
    with suppress(BlockingIOError):
        while True:
            os.write(slave, b"x" * 1000)
    os.set_blocking(slave, True)
    with open(slave, "wb", buffering=0) as full:
        instance.start(output=full)
    eventually(instance.is_ready, 30)
    uids = [instance.create("noisy") for _ in range(50)]
    eventually(lambda: all(instance.succeeded(uid) for uid in uids), 20)
    assert instance.stop() == 0
    instance.is_gone()
    os.close(master)
