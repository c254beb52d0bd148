"""The client and a service that reloads, loses processes, listens on a socket, or asks for tokens."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandbox_client import Client, Forbidden, Task, Unauthorized
from tests.servers import eventually
from tests.system.instance import SANDBOX, Instance

CALLS = 1_000
THREADS = 4


class Load:
    """Creates tasks and waits for each, until there were enough calls and the test says so."""

    def __init__(self, client: Client, ledger: Path) -> None:
        self._client = client
        self._ledger = ledger
        self._enough = threading.Event()
        self.tasks: list[Task] = []
        self.failures: list[BaseException] = []
        self.threads = [threading.Thread(target=self._work) for _ in range(THREADS)]

    @property
    def calls(self) -> int:
        return 2 * len(self.tasks)

    def _work(self) -> None:
        try:
            while self.calls < CALLS or not self._enough.is_set():
                task = self._client.create("client.note", path=str(self._ledger))
                self.tasks.append(task.wait(timeout=120))
        except BaseException as error:
            self.failures.append(error)

    def stop(self) -> None:
        self._enough.set()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def instance(make_instance: Callable[..., Instance]) -> Instance:
    return make_instance(SANDBOX_TASKS="tests.client.handlers").started()


@contextmanager
def load(instance: Instance, ledger: Path) -> Iterator[Load]:
    """In the end no call has failed, each task has run once, and there are no others."""
    with Client(f"http://127.0.0.1:{instance.port}", retry_for=120) as client:
        load = Load(client, ledger)
        for thread in load.threads:
            thread.start()
        try:
            eventually(lambda: load.failures or load.calls >= CALLS // 10, 60)
            yield load
        finally:
            load.stop()
        assert load.failures == []
        assert load.calls >= CALLS
        assert {task.status for task in load.tasks} == {"succeeded"}
        made = {task.uid for task in load.tasks}
        assert made == {task.uid for task in client.tasks()}
        assert Counter(ledger.read_text().split()) == dict.fromkeys(made, 1)


def kill_web_workers(instance: Instance) -> None:
    """All of them: whichever a client is connected to, the answer that it waits for is lost."""
    _, *workers = sorted(instance.kinds()["web"])  # the arbiter is the eldest
    for worker in workers:
        os.kill(worker.pid, signal.SIGKILL)


def test_no_call_fails_and_nothing_runs_twice_while_it_reloads(instance: Instance, folder: Path) -> None:
    with load(instance, folder / "ledger"):
        assert instance.circusctl("reload", "sandbox") == "ok\n"
        assert instance.circusctl("reload", "sandbox-runner") == "ok\n"
        assert instance.circusctl("reload", "sandbox") == "ok\n"


def test_no_call_fails_and_nothing_runs_twice_when_web_workers_are_killed(instance: Instance, folder: Path) -> None:
    with load(instance, folder / "ledger"):
        for _ in range(3):
            eventually(instance.is_whole, 60)
            kill_web_workers(instance)


def test_a_client_that_waits_outlives_the_worker_that_it_waits_at(instance: Instance, folder: Path) -> None:
    with Client(f"http://127.0.0.1:{instance.port}", retry_for=120) as client:
        task = client.create("client.note", path=str(folder / "ledger"), delay=5)
        waiting = threading.Thread(target=task.wait, args=(120,))
        waiting.start()
        kill_web_workers(instance)
        waiting.join()
        assert task.status == "succeeded"


def test_it_speaks_to_a_unix_socket(
    make_instance: Callable[..., Instance], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"unix:{folder}/w.sock"
    instance = make_instance(SANDBOX_BIND=address).start()
    eventually(lambda: "Ctrl-C" in instance.output, 60)
    monkeypatch.setenv("SANDBOX_URL", address)
    with Client() as client:
        assert repr(client) == f"<Client {address}>"
        assert client.create("echo", message="by socket").wait(timeout=60).result == "by socket"
        assert instance.circusctl("reload", "sandbox") == "ok\n"
        assert client.create("echo", message="again").wait(timeout=60).result == "again"


def test_it_sends_its_token(
    make_instance: Callable[..., Instance], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = make_instance(SANDBOX_TOKENS=str(folder / "tokens"))
    tokens = {}
    for name, scope in (("alice", "write"), ("bob", "read")):
        tokens[name] = instance.run(*SANDBOX, "token", "add", name, "--scope", scope).stdout.strip()
    instance.started()
    url = f"http://127.0.0.1:{instance.port}"
    with Client(url) as nobody, Client(url, token="sbx_wrong") as stranger:
        for client in (nobody, stranger):
            with pytest.raises(Unauthorized, match="token"):
                client.types()
            assert client.ready()
    with Client(url, token=tokens["bob"]) as bob:
        assert bob.types()
        with pytest.raises(Forbidden, match="this token may only read"):
            bob.create("echo")
    monkeypatch.setenv("SANDBOX_TOKEN", tokens["alice"])
    with Client(url) as alice:
        task = alice.create("echo").wait(timeout=60)
        assert task.created_by == "alice"
        assert [found.uid for found in alice.tasks(created_by="alice")] == [task.uid]
