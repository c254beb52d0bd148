"""`sandbox task create --wait`, while the service's processes are killed under it."""

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.servers import eventually
from tests.system.instance import SANDBOX, Instance

# Twice a runner: a task that has brought three down would have failed.
VICTIMS = ("web", "runner", "arbiter", "worker", "runner")
TASK_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 1.5  # most kills meet a call that waits, the others one that begins


def victims(instance: Instance) -> dict[str, list[int]]:
    """Once all are there, and none of before: processes to be killed at once."""

    def found() -> dict[str, list[int]]:
        kinds = instance.kinds()
        if not instance.is_whole() or not kinds["runner"]:
            return {}
        web = {process.pid for process in kinds["web"]}
        with suppress(psutil.NoSuchProcess):
            for arbiter in web:
                workers = [child.pid for child in psutil.Process(arbiter).children()]
                if {arbiter, *workers} == web:
                    one = {"arbiter": arbiter, "worker": random.choice(workers), "runner": kinds["runner"][0].pid}
                    return {**{kind: [pid] for kind, pid in one.items()}, "web": [*web]}
        return {}

    return dict(eventually(found))


@contextmanager
def killing(instance: Instance, folder: Path) -> Iterator[threading.Thread]:
    """One kind after the other, each at some moment after a task has begun: it makes a file in the folder."""
    over = threading.Event()

    def kill() -> None:
        for kind in VICTIMS:
            found, before = victims(instance)[kind], len(list(folder.iterdir()))
            eventually(lambda before=before: len(list(folder.iterdir())) > before or over.is_set())
            if over.wait(random.uniform(0, LONGEST_PAUSE_SECONDS)):
                return
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield thread
    finally:
        over.set()
        thread.join()


def test_each_call_ends_well_and_its_task_has_run(make_instance: Callable[..., Instance], tmp_path: Path) -> None:
    instance = make_instance(SANDBOX_TASKS="tests.runner.handlers", SANDBOX_RUNNERS="1").started()
    calls = 0
    with killing(instance, tmp_path) as saboteur:
        while saboteur.is_alive():
            words = ("note", f"path={tmp_path / str(calls)}", f"seconds:={TASK_SECONDS}")
            done = instance.run(*SANDBOX, "task", "create", *words, "--wait")
            assert done.returncode == 0, done.stderr
            assert (tmp_path / str(calls)).read_text()
            calls += 1
    tasks = instance.call("GET", "/tasks?limit=100")[1]["tasks"]
    assert [task["status"] for task in tasks] == ["succeeded"] * calls
    assert instance.stop() == 0
