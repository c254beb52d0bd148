"""`sandbox workspace`, beside the application with records that were made by hand."""

import json
import threading
from collections.abc import Callable, Iterator

import pytest

from service.cli.main import main
from service.workspaces.record import DELETED, FAILED, Workspace
from tests.servers import eventually
from tests.web.estate import EMAIL, SLUG, Estate, served

Ran = tuple[int, str, str]
Run = Callable[..., Ran]


@pytest.fixture
def here(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> Iterator[Estate]:
    monkeypatch.delenv("SANDBOX_TOKEN", raising=False)
    with served(estate.client.application) as url:  # type: ignore[arg-type]
        monkeypatch.setenv("SANDBOX_URL", url)
        yield estate


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> Ran:
        capsys.readouterr()
        code = main(["workspace", *words])
        return code, *capsys.readouterr()

    return run


def in_the_end(estate: Estate, error: str = "", result: object = None, **changed: object) -> threading.Thread:
    """Ends the action that comes, as a builder would."""

    def end() -> None:
        [uid] = eventually(lambda: [task["uid"] for task in estate.client.get("/tasks?status=queued").json["tasks"]])
        found = estate.shelf.read(SLUG)
        assert found is not None
        for name, value in changed.items():
            setattr(found, name, value)
        estate.shelf.write(found)
        estate.end(uid, error, result)

    thread = threading.Thread(target=end)
    thread.start()
    return thread


def test_one_is_made_shown_and_listed(here: Estate, run: Run) -> None:
    assert run("create", EMAIL) == (0, f"{SLUG}\n", "")
    assert run("create", EMAIL) == (0, f"{SLUG}\n", "")
    assert len(here.client.get("/tasks").json["tasks"]) == 1
    here.record(unpushed=["2 commits"], created_at="2026-01-01T00:00:00.000000Z")
    code, out, _ = run("list")
    row = f"{SLUG}\t{EMAIL}\tready\t\t2026-01-01T00:00:00.000000Z\t1\thttp://{SLUG}.localhost:8080\n"
    assert (code, out) == (0, row)
    assert json.loads(run("list", "--json")[1])["slug"] == SLUG
    for name in (SLUG, EMAIL):
        code, out, _ = run("show", name)
        assert code == 0 and f"branch\t{EMAIL}\n" in out
    assert json.loads(run("show", SLUG, "--json")[1])["unpushed"] == ["2 commits"]


def test_one_that_has_failed_is_told_with_what_goes_on(here: Estate, run: Run) -> None:
    here.record(state=FAILED, error="pip failed")
    code, out, err = run("create", EMAIL)
    assert (code, out) == (0, f"{SLUG}\n")
    assert "it has failed: pip failed" in err and f"sandbox workspace resume {SLUG}" in err
    assert run("create", EMAIL, "--take-over") == (0, f"{SLUG}\n", "")


def test_a_creation_is_awaited(here: Estate, run: Run) -> None:
    thread = in_the_end(here, state="ready", address="https://jo.example.com")
    code, out, _ = run("create", EMAIL, "--wait")
    thread.join()
    assert code == 0 and out.startswith(f"{SLUG}\t{EMAIL}\tready\t") and out.endswith("\thttps://jo.example.com\n")


@pytest.mark.parametrize("how", ["--wait", "--follow"])
def test_an_action_that_fails_says_why(here: Estate, run: Run, how: str) -> None:
    here.record()
    thread = in_the_end(here, "the branch \x1b[2J has diverged:\nmine", state=FAILED)
    code, out, errors = run("update", SLUG, how)
    thread.join()
    assert code == 1 and out.split("\t")[2] == "failed"
    assert "workspace.update has failed: the branch \\x1b[2J has diverged:\nmine\n" in errors


@pytest.mark.parametrize("how", ["--wait", "--follow", "--json"])
@pytest.mark.parametrize("passed", [True, False])
def test_tests_that_have_failed_are_told_by_the_exit_code(here: Estate, run: Run, how: str, passed: bool) -> None:
    here.record()
    thread = in_the_end(here, result={"passed": passed, "status": int(not passed)})
    code, _, errors = run("test", SLUG, "--wait", how)
    thread.join()
    assert code == (0 if passed else 1)
    assert (f"the tests have failed: sandbox workspace log {SLUG}" in errors) is not passed


@pytest.mark.parametrize(
    ("words", "type", "args"),
    [
        (["start", SLUG], "start", {}),
        (["stop", EMAIL], "stop", {}),
        (["restart", SLUG], "restart", {}),
        (["update", SLUG], "update", {}),
        (["test", SLUG], "test", {}),
        (["rebuild", SLUG], "rebuild", {"python": None}),
        (["rebuild", SLUG, "--python", "python3.12"], "rebuild", {"python": "python3.12"}),
        (["access", SLUG, "jo"], "access", {"login": "jo"}),
        (["delete", SLUG], "delete", {"force": False, "branch": "ours"}),
        (["delete", SLUG, "--force", "--keep-branch"], "delete", {"force": True, "branch": "keep"}),
    ],
)
def test_each_action_is_asked_for(here: Estate, run: Run, words: list[str], type: str, args: dict[str, object]) -> None:
    here.record()
    assert run(*words) == (0, f"{SLUG}\n", "")
    [task] = here.client.get("/tasks").json["tasks"]
    assert (task["type"], task["args"]) == (f"workspace.{type}", {"slug": SLUG, **args})
    code, _, errors = run("stop", SLUG)
    assert code == 6 and task["uid"] in errors


def test_a_failed_creation_is_resumed_with_a_branch_of_somebody_elses(here: Estate, run: Run) -> None:
    here.record(state=FAILED)
    answer = json.loads(run("resume", SLUG, "--take-over", "--json")[1])
    assert answer["task"]["args"] == {"email": EMAIL, "take_over": True}
    assert answer["workspace"]["slug"] == SLUG


def test_a_deletion_that_is_awaited_ends_with_nothing_to_show(here: Estate, run: Run) -> None:
    here.record()
    thread = in_the_end(here, state=DELETED)
    assert run("delete", SLUG, "--wait")[:2] == (0, "")
    thread.join()
    assert run("show", SLUG)[0] == 5


def test_extend_and_link(here: Estate, run: Run) -> None:
    found: Workspace = here.record(last_used=None)
    assert run("extend", SLUG)[:2] == (0, run("list")[1])
    stored = here.shelf.read(SLUG)
    assert stored is not None and stored.last_used is not None
    code, out, _ = run("link", SLUG)
    assert code == 0 and f"/ui/workspaces/{found.slug}/open?key=" in out and out.startswith("http://127.0.0.1:")


def test_the_log_is_that_of_the_last_action(here: Estate, run: Run) -> None:
    here.record()
    assert run("log", SLUG)[0] == 5
    run("update", SLUG)
    assert run("log", SLUG) == (0, "", "")
    thread = in_the_end(here)
    assert run("log", SLUG, "-f")[0] == 0
    thread.join()


def test_what_is_no_email_is_told_before_anybody_is_asked(here: Estate, run: Run) -> None:
    code, _, errors = run("show", "a@b@c")
    assert code == 1 and "an email has one @" in errors
    assert run("create", "jo")[0] == 2
