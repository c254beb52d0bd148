"""A push is tested and deployed to the first stage; a person's wish brings that very release to the second."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from service.errors import Cancelled, Interrupted, Stopping
from service.runner import programs
from service.testing import Outcome
from service.workspaces.releases import chain
from service.workspaces.releases.chain import DEPLOY, PROMOTE
from service.workspaces.releases.clone import OperatorsClone
from service.workspaces.releases.ledger import ASKED, DONE, FAILED, RUNNING
from tests.servers import eventually
from tests.workspaces.releases.ground import Ground

UID = "a" * 64


def said(outcome: Outcome) -> str:
    assert outcome.status == "failed" and outcome.error is not None, outcome
    return outcome.error.message


def wished(ground: Ground, release: str, uid: str = UID) -> None:
    with ground.ledger.locked():
        ground.ledger.wish(release, uid, "jo")


def state(ground: Ground) -> str:
    wish = ground.ledger.read().wish
    assert wish is not None
    return wish.state


def test_a_push_is_tested_and_then_deployed_to_the_first_stage(ground: Ground) -> None:
    sha = ground.push()
    outcome = ground.do(PROMOTE, sha=sha, uid=UID)
    assert outcome.status == "succeeded"
    [told] = ground.told()
    assert told["words"] == ["-r", "deploy", "staging", "deploy", "--lock-wait", "600", "--ref", sha]
    assert told["folder"] == str(ground.place)
    assert (ground.folder / "tested").read_text().strip() == sha
    assert outcome.result == {"release": f"20260101T000001-{sha[:7]}", "sha": sha, "stage": "staging"}
    [proved] = ground.ledger.read().proved
    assert (proved.release, proved.sha, proved.task) == (outcome.result["release"], sha, UID)
    lines = [line.message for line in outcome.logs]
    assert "newer" in lines and any(line.endswith(f"done               {proved.release}") for line in lines)


def test_neither_the_tests_nor_fab_get_anything_of_the_services(ground: Ground) -> None:
    ground.promoted()
    tests = (ground.folder / "variables").read_text()
    assert "of the service" not in tests
    assert not [name for name in ground.told()[0]["variables"] if name.startswith("SANDBOX")]


def test_the_operators_working_tree_is_left_and_no_checkout_stays(ground: Ground) -> None:
    (ground.place / "text").write_text("the operator's")
    ground.promoted()
    assert (ground.place / "text").read_text() == "the operator's"
    assert not ground.chain.clone.scratch.exists()


def test_a_checkout_that_tests_have_made_read_only_is_in_nobodys_way(ground: Ground) -> None:
    """Root could remove it in any case; an ordinary user could not."""
    (ground.chain.clone.scratch / "locked" / "in").mkdir(parents=True)
    (ground.chain.clone.scratch / "locked").chmod(0o500)
    ground.promoted()
    assert not ground.chain.clone.scratch.exists()


def test_what_fails_its_tests_is_not_deployed(ground: Ground) -> None:
    sha = ground.push("broken")
    message = said(ground.do(PROMOTE, sha=sha))
    assert message.startswith("the tests ended with 1") and "hello" in message
    assert ground.told() == [] and ground.ledger.read().proved == ()


def test_a_deploy_that_fails_proves_nothing(ground: Ground) -> None:
    (ground.folder / "fail").touch()
    assert "the gate says no" in said(ground.do(PROMOTE, sha=ground.push()))
    assert ground.ledger.read().proved == ()


def test_a_push_that_was_followed_by_another_leaves_it_to_that_one(ground: Ground) -> None:
    first, second = ground.push(text="1"), ground.push(text="2")
    assert f"main is at {second}, and not at {first}" in said(ground.do(PROMOTE, sha=first))
    assert ground.told() == []
    assert ground.do(PROMOTE).result["sha"] == second  # asked for by hand, it is what is there


def test_the_very_release_goes_to_the_second_stage(ground: Ground) -> None:
    first, second = ground.promoted(), ground.promoted()
    wished(ground, first)
    assert ground.do(DEPLOY, release=first, uid=UID).result == {"release": first, "stage": "production"}
    words = ["-r", "deploy", "production", "deploy", "--lock-wait", "600", "--release", first]
    assert ground.told()[-1]["words"] == words
    page = ground.ledger.read()
    assert (page.current, state(ground)) == (first, DONE)
    assert [one.release for one in page.proved] == [second, first]


@pytest.mark.parametrize("wrong", ["another task", "another release", "nobody", "done", "failed"])
def test_a_task_that_nobody_asks_for_any_more_deploys_nothing(ground: Ground, wrong: str) -> None:
    release = ground.promoted()
    if wrong != "nobody":
        wished(ground, release, "b" * 64 if wrong == "another task" else UID)
    if wrong in (DONE, FAILED):
        ground.ledger.follow(UID, wrong)
    asked = "20200101T000000-aaaaaaa" if wrong == "another release" else release
    assert "nobody asks for this" in said(ground.do(DEPLOY, release=asked, uid=UID))
    assert len(ground.told()) == 1


def test_a_deploy_to_the_second_stage_that_fails_is_asked_for_anew(ground: Ground) -> None:
    release = ground.promoted()
    wished(ground, release)
    (ground.folder / "fail").touch()
    assert "the gate says no" in said(ground.do(DEPLOY, release=release, uid=UID))
    assert (state(ground), ground.ledger.read().current) == (FAILED, None)
    (ground.folder / "fail").unlink()
    assert "nobody asks" in said(ground.do(DEPLOY, release=release, uid=UID))  # as by a retry
    wished(ground, release, "b" * 64)
    assert ground.do(DEPLOY, release=release, uid="b" * 64).status == "succeeded"


def interrupted(monkeypatch: pytest.MonkeyPatch, by: type[Interrupted]) -> Callable[[], None]:
    """Raises in the handler when fab runs, as a runner does; the value switches that off."""
    follow = programs._follow

    def cut(process: object, output: object, timeout: float | None) -> None:
        eventually(lambda: process.poll() is None and b"deploy" in _words(process.pid), 30)  # type: ignore[attr-defined]
        raise by

    monkeypatch.setattr(programs, "_follow", cut)
    return lambda: monkeypatch.setattr(programs, "_follow", follow)


def _words(pid: int) -> bytes:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()


@pytest.mark.parametrize(("by", "left"), [(Stopping, RUNNING), (Cancelled, FAILED)])
def test_a_stop_is_gone_on_with_and_a_cancel_is_not(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, by: type[Interrupted], left: str
) -> None:
    release = ground.promoted()
    wished(ground, release)
    assert state(ground) == ASKED
    (ground.folder / "hang").touch()
    go_on = interrupted(monkeypatch, by)
    ground.do(DEPLOY, release=release, uid=UID)
    assert state(ground) == left
    assert not [pid for pid in _pids() if str(ground.place).encode() in _words_or_nothing(pid)]
    go_on()
    (ground.folder / "hang").unlink()
    outcome = ground.do(DEPLOY, release=release, uid=UID)
    assert outcome.status == ("succeeded" if left == RUNNING else "failed")


def broken_off(*_: object) -> str:
    raise Stopping


@pytest.mark.parametrize("was_built", [True, False])
def test_a_deploy_that_was_broken_off_goes_on_with_the_release_that_it_built(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, was_built: bool
) -> None:
    """As where the deploy reloads the very builder that does it."""
    sha = ground.push()
    ground.built("20200101T000000-" + sha[:7])  # somebody else, long ago
    with monkeypatch.context() as patched:
        patched.setattr(OperatorsClone, "deploy", broken_off)
        ground.do(PROMOTE, sha=sha, uid=UID)
    release = f"20990101T000000-{sha[:7]}"
    if was_built:
        ground.built(release)
    outcome = ground.do(PROMOTE, sha=sha, uid=UID)
    assert outcome.status == "succeeded"
    assert ground.told()[-1]["words"][-2:] == (["--release", release] if was_built else ["--ref", sha])
    assert ground.ledger.read().proved[0].release == outcome.result["release"]


@pytest.mark.parametrize("name", [PROMOTE, DEPLOY])
def test_a_deploy_that_ends_its_own_builder_is_not_tried_for_ever(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    args = {"release": ground.promoted()} if name == DEPLOY else {"sha": ground.push()}
    if name == DEPLOY:
        wished(ground, args["release"])
    monkeypatch.setattr(OperatorsClone, "deploy", broken_off)
    monkeypatch.setattr(OperatorsClone, "prove", lambda *_: None)
    for _ in range(chain.TRIES):
        ground.do(name, uid=UID, **args)
    assert "do builders work on one of the hosts" in said(ground.do(name, uid=UID, **args))
    if name == DEPLOY:
        assert state(ground) == FAILED


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _words_or_nothing(pid: int) -> bytes:
    try:
        return _words(pid)
    except OSError:
        return b""


def test_one_release_is_under_way_at_a_time(ground: Ground) -> None:
    sha = ground.push()
    (ground.folder / "hang").touch()
    outcomes: list[Outcome] = []
    first = threading.Thread(target=lambda: outcomes.append(ground.do(PROMOTE, sha=sha)))
    first.start()
    try:
        eventually(ground.told, 30)
        second = ground.do(PROMOTE, sha=sha)
        assert second.status == "scheduled" and second.error is not None
        assert "another release is under way" in second.error.message
    finally:
        (ground.folder / "hang").unlink()
        first.join()
    assert [each.status for each in outcomes] == ["succeeded"]


@pytest.mark.parametrize("name", [PROMOTE, DEPLOY])
def test_one_waits_for_another_as_long_as_that_may_take(ground: Ground, name: str) -> None:
    [found] = [each for each in chain.types(ground.chain) if each.name == name]
    assert found.timeout is not None and found.max_attempts * chain.BUSY_SECONDS > found.timeout


def test_without_the_deploy_tools_it_is_said_what_to_do(ground: Ground) -> None:
    (ground.place / "deploy" / ".venv" / "bin" / "fab").unlink()
    assert "make deploy-tools" in said(ground.do(PROMOTE, sha=ground.push()))


def test_a_ledger_that_cannot_be_read_is_left_as_it_is(ground: Ground) -> None:
    ledger = ground.folder / "releases" / "ledger.json"
    ledger.parent.mkdir()
    ledger.write_text("{")
    assert "cannot be read" in said(ground.do(PROMOTE, sha=ground.push()))
    assert ledger.read_text() == "{"
