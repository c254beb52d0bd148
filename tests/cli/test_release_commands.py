"""`sandbox release`, beside the application with a ledger that was made by hand."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.cli.main import main
from service.store import Store
from service.tasks.document import TaskError
from service.web.app import Web
from service.workspaces.releases.ledger import DONE
from tests.servers import eventually
from tests.web.estate import served
from tests.web.test_releases import FIRST, OLD, SECOND, SHA, Yard

Ran = tuple[int, str, str]
Run = Callable[..., Ran]


@pytest.fixture
def here(make_app: Callable[..., Web], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    yard = Yard(make_app, store, tmp_path)
    yard.ledger.prove(FIRST, OLD, "1" * 64)
    yard.ledger.prove(SECOND, SHA, "2" * 64)
    monkeypatch.setenv("SANDBOX_TOKEN", yard.secrets["jo"])
    with served(yard.client.application) as url:  # type: ignore[arg-type]
        monkeypatch.setenv("SANDBOX_URL", url)
        yield yard


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> Ran:
        capsys.readouterr()
        code = main(["release", *words])
        return code, *capsys.readouterr()

    return run


def in_the_end(yard: Yard, finish: Callable[..., None], error: TaskError | None = None) -> threading.Thread:
    """Ends the task that comes, as a builder would."""

    def end() -> None:
        uid = eventually(lambda: [task["uid"] for task in yard.tasks() if task["status"] == "queued"])[0]
        yard.ledger.follow(uid, DONE)
        finish(uid, error)

    thread = threading.Thread(target=end)
    thread.start()
    return thread


def test_they_are_listed(here: Yard, run: Run) -> None:
    code, out, _ = run("list")
    assert code == 0
    assert [line.split("\t")[:2] for line in out.splitlines()] == [[SECOND, SHA[:12]], [FIRST, OLD[:12]]]
    assert run("promote", FIRST)[:2] == (0, f"{FIRST}\n")
    assert run("list")[1].splitlines()[1].endswith("\tproduction: queued")
    assert json.loads(run("list", "--json")[1])["asked"]["release"] == FIRST


@pytest.mark.parametrize("how", ["--wait", "--follow"])
def test_one_is_brought_there_and_awaited(here: Yard, run: Run, finish: Callable[..., None], how: str) -> None:
    ending = in_the_end(here, finish)
    assert run("promote", FIRST, how)[:2] == (0, f"{FIRST}\n")
    ending.join()
    assert run("list")[1].splitlines()[1].endswith("\tbrought to production last")


def test_what_fails_is_told(here: Yard, run: Run, finish: Callable[..., None]) -> None:
    ending = in_the_end(here, finish, TaskError(type="Reject", message="the gate says no"))
    code, out, err = run("promote", FIRST, "--wait")
    ending.join()
    assert (code, out) == (1, "") and "release.deploy has failed: the gate says no" in err


def test_a_refusal_is_told(here: Yard, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_TOKEN", here.secrets["al"])
    code, _, err = run("promote", FIRST)
    assert code != 0 and "may not bring releases there" in err
