"""Proves that the release serves. Arguments: release, socket, domain, seconds, task type; the token on standard input.

For so many seconds /health/ready must answer over the socket and through nginx, without a complaint of what a reload
replaces, and no process may die and be replaced. Then a task is created through nginx, and must succeed. By then every
runner of an earlier release has been told to stop (a reload does that after a second), and takes nothing new: so this
release ran the task. One that only waits proves nothing, and ends with 4, unless it is told why it waits: its queue or
type is paused, or others have waited for longer, and a runner of this release executes something. That is printed.
"""

import contextlib
import http.client
import json
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

release, path, domain, seconds, task_type = sys.argv[1:]
token = sys.stdin.read().strip()
folder = f"{os.environ['ROOT']}/releases/{release}/"
PAUSE_SECONDS = 0.25
TASK_SECONDS = 30
LOOK_SECONDS = 5  # for a runner that executes something; what is short is not seen each time
WAITS = 4
OF_THE_RELEASE = {"sandbox", "sandbox-runner", "sandbox-builder"}  # other marks are of what served before, or goes on
REPLACED_SECONDS = 2  # by then circusd has replaced what has died


class OverSocket(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(path)


class ThroughNginx(http.client.HTTPSConnection):
    """The name of the domain, the address of this host; its certificate is the client's to judge."""

    def connect(self) -> None:
        self.sock = socket.create_connection(("127.0.0.1", 443), self.timeout)
        self.sock = ssl._create_unverified_context().wrap_socket(self.sock, server_hostname=domain)


def over_socket() -> http.client.HTTPConnection:
    return OverSocket("localhost", timeout=10)


def through_nginx() -> http.client.HTTPConnection:
    return ThroughNginx(domain, timeout=10)


def call(connect: Callable[[], http.client.HTTPConnection], method: str, target: str, body: Any = None) -> Any:
    connection = connect()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        connection.request(method, target, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        sys.exit(f"{method} {target} {connect.__name__}: no answer: {error or type(error).__name__}")
    finally:
        connection.close()
    if answer.status >= 300:
        sys.exit(f"{method} {target} {connect.__name__}: {answer.status} {text[:2000]}")
    return json.loads(text)


def supervisor_pid() -> str:
    """The service's user may put there what he likes: no link is followed, and no pipe waited for."""
    descriptor = os.open("/run/sandbox/sandbox.pid", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return os.read(descriptor, 20).decode(errors="replace").strip()
    finally:
        os.close(descriptor)


def processes() -> dict[str, set[str]]:
    """What circusd started of this release, and what that started."""
    supervisor = supervisor_pid()
    parents: dict[str, tuple[str, str]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if folder in command and "service.cli" in command:
            parents[process.name] = (parent, command)
    first = {pid for pid, (parent, _) in parents.items() if parent == supervisor}
    return {kind: {pid for pid in first if kind in parents[pid][1]} for kind in ("service.cli.serve", "runner")}


def accept_waiting(task: Any, asked: float, runners: set[str]) -> None:
    """An operator's pause and the users' backlog are no fault of the release."""
    why = why_it_waits(task, asked, runners)
    with contextlib.suppress(SystemExit):  # it may have ended meanwhile
        call(through_nginx, "DELETE", f"/tasks/{task['uid']}")
    if not why:
        print(f"a task {task_type} is still queued after {TASK_SECONDS} s", file=sys.stderr)
        sys.exit(WAITS)
    print(f"a task {task_type} was not executed: {why}")


def why_it_waits(task: Any, asked: float, runners: set[str]) -> str:
    queue = next(one for one in call(through_nginx, "GET", "/queues")["queues"] if one["queue"] == task["queue"])
    kind = next(one for one in call(through_nginx, "GET", "/types")["types"] if one["type"] == task["type"])
    if queue["paused"] or kind["paused"]:
        return f"its {'queue' if queue['paused'] else 'type'} is paused"
    others = (queue["oldest"] or 0) > time.monotonic() - asked
    return "others have waited for longer" if others and executes_something(runners) else ""


def executes_something(runners: set[str]) -> bool:
    until = time.monotonic() + LOOK_SECONDS
    while time.monotonic() < until:
        for one in call(through_nginx, "GET", "/runners")["runners"]:
            if one["host"] == socket.gethostname() and str(one["pid"]) in runners and one["executing"]:
                return True
        time.sleep(PAUSE_SECONDS)
    return False


def prove() -> None:
    began = time.monotonic()
    found = processes()
    for kind, pids in found.items():
        if not pids:
            sys.exit(f"no process of this release is a {kind}")
    while time.monotonic() < began + float(seconds):
        for connect in (over_socket, through_nginx):
            failing = call(connect, "GET", "/health/ready").get("failing", {})
            if ours := {name: why for name, why in failing.items() if name in OF_THE_RELEASE}:
                sys.exit(f"/health/ready complains: {json.dumps(ours)}")
        time.sleep(PAUSE_SECONDS)
    asked = time.monotonic()
    task = call(through_nginx, "POST", "/tasks", {"type": task_type})
    until = time.monotonic() + TASK_SECONDS
    while task["status"] in ("queued", "scheduled", "running") and time.monotonic() < until:
        time.sleep(0.05)
        task = call(through_nginx, "GET", f"/tasks/{task['uid']}")
    if task["status"] == "queued":
        accept_waiting(task, asked, found["runner"])
    elif task["status"] in ("scheduled", "running"):
        sys.exit(f"a task {task_type} is still {task['status']} after {TASK_SECONDS} s")
    elif task["status"] != "succeeded":
        sys.exit(f"a task {task_type} has {task['status']}: {task['error']}")
    now = processes()
    if now != found:
        time.sleep(REPLACED_SECONDS)
        now = processes()
    for kind, pids in now.items():
        gone, new = found[kind] - pids, pids - found[kind]
        if not pids or (gone and new):  # one that leaves after a restart has no successor
            sys.exit(
                f"{kind}: {len(gone)} of the processes that took over have died since; see the logs of the service"
            )


prove()
