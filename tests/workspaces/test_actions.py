"""What is done to a workspace that stands: start and stop, update, rebuild, sleep; and what is refused."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.errors import Cancelled, Interrupted, Stopping
from service.tasks import moments
from service.testing import run
from service.workspaces import actions, engine, mirror, names, record, whose
from service.workspaces.hands import REQUIREMENTS, TEST, Ended, Facts, Hands, HandsFailed, Speaker
from service.workspaces.second_control import SecondCircusd
from service.workspaces.statuses import Statuses
from service.workspaces.steps import serving
from service.workspaces.steps.sequence import SEQUENCE
from service.workspaces.work import Work
from tests.servers import eventually
from tests.workspaces.conftest import small_project
from tests.workspaces.forge import Forge
from tests.workspaces.yard import EMAIL, SLUG, Yard, do, git, handler, requests_while

pytestmark = pytest.mark.slow
AL = "al@example.org"
ALS = names.slug(AL)


class _Blind:
    """Hands that see nothing of the files."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._hands, verb)

    def facts(self, slug: str) -> Facts:
        raise HandsFailed("what is there is not read")


class _CutOff:
    """Hands whose tests are interrupted."""

    def __init__(self, hands: Hands, interruption: type[Interrupted]) -> None:
        self._hands = hands
        self._interruption = interruption

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._hands, verb)

    def run(self, speaker: Speaker, slug: str, step: str, *arguments: str | int, seconds: float) -> Ended:
        if step == TEST:
            raise self._interruption
        return self._hands.run(speaker, slug, step, *arguments, seconds=seconds)


@pytest.fixture
def built(small: Yard) -> Yard:
    small.done("create", email=EMAIL)
    return small


def test_it_is_stopped_started_and_restarted(built: Yard) -> None:
    first, _, _ = built.get()[1].partition(" ")
    built.done("restart", slug=SLUG)
    second, _, _ = built.get()[1].partition(" ")
    assert first != second

    assert built.done("stop", slug=SLUG)["state"] == "stopped"
    status, page = built.get()
    assert status == 502 and "It is stopped" in page
    assert whose.marked(built.home().path) == []
    assert built.done("create", email=EMAIL)["state"] == "stopped"  # asked for again, it is not started
    built.push(EMAIL, "text", "newer")
    assert built.done("update", slug=SLUG)["state"] == "stopped"  # nor by an update
    assert built.done("rebuild", slug=SLUG)["state"] == "stopped"
    assert whose.marked(built.home().path) == []
    assert built.done("start", slug=SLUG)["state"] == "ready"
    assert built.get()[1].endswith(" newer")


def test_a_forge_is_told_how_the_tests_of_a_commit_stand(built: Yard) -> None:
    forge = Forge()
    plan = built.planned(statuses=Statuses(forge.url("/statuses/{sha}"), page="http://sandbox.example"))
    try:
        sha = git("rev-parse", "HEAD", folder=built.home().code)
        assert do(plan, "test", slug=SLUG).result["passed"]
        (built.home().code / "Procfile").write_text("web: python serve.py\ntest: false\n")
        assert not do(plan, "test", slug=SLUG).result["passed"]
        for interruption in (Stopping, Cancelled):
            do(replace(plan, hands=_CutOff(plan.hands, interruption)), "test", slug=SLUG)
        of_somebody_else = built.push("main", "text", "later")
        (built.home().code / ".git" / "HEAD").write_text(f"{of_somebody_else}\n")
        do(plan, "test", slug=SLUG)  # tells nobody
    finally:
        forge.server.close()
    told = [each.body["state"] for each in forge.told]
    assert told == ["pending", "success", "pending", "failure", "pending", "pending", "error"]
    assert {each.path for each in forge.told} == {f"/statuses/{sha}"}
    assert forge.told[0].body["target_url"].startswith("http://sandbox.example/ui/tasks/")


def test_tests_run_though_the_origin_cannot_say_of_which_commit_the_forge_is_to_be_told(built: Yard) -> None:
    plan = built.planned(statuses=Statuses("http://127.0.0.1:9/statuses/{sha}"))
    built.origin.rename(built.origin.with_name("away.git"))
    outcome = do(plan, "test", slug=SLUG)
    assert outcome.status == "succeeded" and outcome.result["passed"]
    assert "no commit status is sent: git ls-remote: " in "\n".join(line.message for line in outcome.logs)


def test_a_restart_that_takes_long_leaves_no_error_in_the_log_of_circusd(built: Yard) -> None:
    """It looks after all of them each second, and has to leave that out meanwhile."""
    code = built.home().code
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    (code / "serve.py").write_text(stubborn + (code / "serve.py").read_text())
    (code / "Procfile").write_text("web: exec python serve.py\n")
    for _ in range(2):
        built.done("restart", slug=SLUG)
    log = (built.places.run / "circus.log").read_text()
    assert log.count(f"{SLUG} stopped") == 2
    assert "ERROR" not in log and "Traceback" not in log


def test_an_update_follows_the_branch_or_touches_nothing(built: Yard) -> None:
    sha = built.push(EMAIL, "text", "newer")
    assert built.done("update", slug=SLUG)["to"] == sha
    first = built.get()[1]
    assert first.endswith(" newer")
    built.done("update", slug=SLUG)
    assert built.get()[1] == first  # nothing to do, nothing restarted

    code = built.home().code
    (code / "text").write_text("mine")
    git("commit", "--quiet", "--all", "--message=Mine", folder=code)
    mine = git("rev-parse", "HEAD", folder=code)
    built.push(EMAIL, "text", "theirs")
    assert "cannot be fast-forwarded" in built.refused("update", slug=SLUG)
    assert git("rev-parse", "HEAD", folder=code) == mine and built.get()[1].endswith(" mine")
    assert built.refused("delete", slug=SLUG).endswith("Mine")
    assert built.record().unpushed[0].startswith("not pushed: ")


def test_an_update_that_git_fails_after_it_has_moved_the_code_is_brought_to_its_end_by_the_next(built: Yard) -> None:
    built.push(EMAIL, "requirements.txt", "# nothing yet\n")
    work = built.folder / "work"
    refused_by_git = '[submodule "part"]\n\tpath = part\n\turl = ../part\n\tupdate = !true\n'
    (work / ".gitmodules").write_text(refused_by_git)
    git("update-index", "--add", "--cacheinfo", f"160000,{git('rev-parse', 'HEAD', folder=work)},part", folder=work)
    git("add", ".gitmodules", folder=work)
    git("commit", "--quiet", "--message=A part", folder=work)
    git("push", "--quiet", "--no-recurse-submodules", "origin", EMAIL, folder=work)
    sha = git("rev-parse", "HEAD", folder=work)
    assert "submodule.part.update" in built.refused("update", slug=SLUG)
    assert built.done("update", slug=SLUG)["to"] == sha
    assert built.home().venv.readlink().name == "2"


def test_a_branch_that_somebody_has_pushed_to_stays(built: Yard) -> None:
    sha = built.push(EMAIL, "text", "newer")
    outcome = built.do("delete", slug=SLUG)
    assert outcome.result["state"] == "deleted"
    assert any("the branch jo@example.org stays" in line.message for line in outcome.logs)
    assert built.branches()[EMAIL] == sha

    assert "is at the origin already" in built.refused("create", email=EMAIL)
    assert built.record().state == "failed" and built.record().step == "branch"
    assert built.done("create", email=EMAIL, take_over=True)["state"] == "ready"
    assert built.get()[1].endswith(" newer") and built.record().generation == 2
    built.done("delete", slug=SLUG)
    assert built.branches()[EMAIL] == sha


def test_what_a_person_has_checked_out_and_not_pushed_stays_at_a_resume(built: Yard) -> None:
    code = built.home().code
    base = git("rev-parse", "HEAD", folder=code)
    mine = committed(code)
    git("checkout", "--quiet", "-b", "another", base, folder=code)
    for rest in ({}, {"steps": {}}):  # also where a killed resume has left the step begun
        changed(built, state="failed", **rest)
        assert built.done("create", email=EMAIL)["state"] == "ready"
        assert git("rev-parse", EMAIL, folder=code) == mine
        assert git("symbolic-ref", "--short", "HEAD", folder=code) == "another"
    assert "Mine" in built.refused("delete", slug=SLUG)


def test_a_branch_of_ours_that_the_person_has_pushed_is_no_one_elses(built: Yard) -> None:
    sha = built.push(EMAIL, "text", "newer")
    built.plan.hands.stop(SLUG)
    changed(built, state="failed")
    shutil.rmtree(built.home().code)
    assert built.done("create", email=EMAIL)["state"] == "ready"
    assert git("rev-parse", EMAIL, folder=built.home().code) == sha and not built.record().taken_over
    assert built.get()[1].endswith(" newer")


def test_an_update_moves_no_other_branch_that_is_checked_out(built: Yard) -> None:
    code = built.home().code
    git("checkout", "--quiet", "main", folder=code)
    main = git("rev-parse", "main", folder=code)
    built.push(EMAIL, "text", "newer")
    assert "main is checked out, and an update follows the workspace's branch alone" in built.refused(
        "update", slug=SLUG
    )
    git("checkout", "--quiet", "--detach", folder=code)
    assert "no branch is checked out" in built.refused("update", slug=SLUG)
    assert git("rev-parse", "main", folder=code) == main and built.get()[1].endswith(" hello")
    git("checkout", "--quiet", EMAIL, folder=code)
    built.done("update", slug=SLUG)
    assert built.get()[1].endswith(" newer")


def test_what_has_failed_by_a_push_is_mended_by_a_push(built: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEALTH_SECONDS", 2.0)
    good = (built.home().code / "serve.py").read_text()
    built.push(EMAIL, "serve.py", "raise SystemExit(1)")
    built.refused("update", slug=SLUG)
    assert built.record().state == "failed"
    monkeypatch.undo()
    built.push(EMAIL, "serve.py", good)
    git("pull", "--quiet", folder=built.home().code)  # as whoever mends it there, and pushes
    assert built.done("update", slug=SLUG)["state"] == "ready"


def test_each_action_tells_at_which_step_it_is(built: Yard) -> None:
    def told(action: str) -> list[str]:
        outcome = built.do(action, slug=SLUG)
        assert outcome.status == "succeeded", outcome
        return [step.message for step in outcome.progress]

    built.push(EMAIL, "text", "newer")
    assert told("update") == ["mirror", "venv", "env", "prepare", "health"]
    assert told("rebuild") == ["venv", "health"]
    assert told("delete") == [step.name for step in reversed(SEQUENCE)]


def test_so_much_is_kept_of_what_is_not_pushed_as_a_person_reads(built: Yard) -> None:
    for number in range(engine.KEPT_UNPUSHED + 1):
        (built.home().code / f"{number:03}{'x' * 240}").touch()
    message = built.refused("delete", slug=SLUG)
    *shown, last = built.record().unpushed
    assert len(shown) == engine.KEPT_UNPUSHED and last == "and more"
    assert {len(line) for line in shown} == {engine.KEPT_CHARACTERS} and shown[0] in message


@pytest.mark.parametrize("broken", ["HEAD", "index"])
def test_a_clone_that_cannot_be_read_is_deleted_only_with_force(built: Yard, broken: str) -> None:
    (built.home().code / "text").write_text("mine")
    (built.home().code / ".git" / broken).write_text("rubbish")
    message = built.refused("delete", slug=SLUG)
    assert "cannot be seen" in message and "force" in message and built.record().state == "ready"
    assert (built.home().code / "text").read_text() == "mine"
    assert built.done("delete", slug=SLUG, force=True)["state"] == "deleted"


def test_a_workspace_cannot_keep_itself_from_being_deleted_nor_others_from_care(built: Yard) -> None:
    neighbour = built.done("create", email="al@example.org")["slug"]
    aged(built, neighbour)
    (built.home().venvs / "²").mkdir()
    (built.home().venvs / "²" / "freeze.txt").touch()
    head = built.home().code / ".git" / "HEAD"
    head.unlink()
    os.mkfifo(head)
    built.home().venvs.chmod(0)
    assert built.done("reconcile")["asleep"] == [neighbour]
    assert built.done("delete", slug=SLUG, force=True)["state"] == "deleted"
    assert not built.home().path.exists()


def test_what_breaks_one_keeps_nobody_from_the_others(built: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    neighbour = built.done("create", email="al@example.org")["slug"]
    aged(built, neighbour)
    last_used = built.plan.hands.last_used

    def broken(slug: str) -> float | None:
        if slug == SLUG:
            raise ValueError("broken")
        return last_used(slug)

    monkeypatch.setattr(built.plan.hands, "last_used", broken)
    assert built.done("reconcile") == {"asleep": [neighbour], "failed": [SLUG], "orphans": []}


def test_tests_are_run_and_access_is_refused_in_plain_mode(built: Yard) -> None:
    assert built.done("test", slug=SLUG)["passed"] is True
    (built.home().code / "Procfile").write_text("web: python serve.py\ntest: echo bad; exit 3\n")
    result = built.done("test", slug=SLUG)
    assert (result["passed"], result["status"]) == (False, 3)
    assert built.record().test == result
    assert "plain mode" in built.refused("access", slug=SLUG, login="root")


def test_an_action_waits_for_longer_than_another_may_take(built: Yard) -> None:
    with built.plan.shelf.lock(SLUG):
        waits = [run(handler(built.plan, "restart"), slug=SLUG, attempt=each) for each in (1, actions.ATTEMPTS - 1)]
    assert {waiting.status for waiting in waits} == {"scheduled"}
    first, last = (waiting.retry_after or 0 for waiting in waits)
    assert first == 5 and (first + last) * (actions.ATTEMPTS - 1) / 2 > actions.LONGEST_SECONDS + 100


def test_tests_wait_for_the_end_of_the_update_before_them(built: Yard) -> None:
    update = "1" * 64
    waiting = built.do("test", slug=SLUG, after=update)
    assert (waiting.status, built.record().test) == ("scheduled", None)
    for code in ("newer", "theirs"):
        sha = built.push(EMAIL, "text", code)
        run(handler(built.plan, "update"), {"slug": SLUG}, uid=update)
        assert built.done("test", slug=SLUG, after=update)["sha"] == sha
        update = "2" * 64
    (built.home().code / "text").write_text("mine")
    built.push(EMAIL, "text", "not to be had")
    refused = run(handler(built.plan, "update"), {"slug": SLUG}, uid="3" * 64)
    assert refused.status == "failed"
    assert built.done("test", slug=SLUG, after="3" * 64)["sha"] == sha


def test_broken_requirements_fail_with_the_words_of_pip_and_are_mended(small: Yard) -> None:
    small.push("main", "requirements.txt", "./nothing-here\n")
    message = small.refused("create", email=EMAIL)
    assert message.startswith("requirements failed: ") and "nothing-here" in message
    found = small.record()
    assert (found.state, found.step, found.error) == ("failed", "venv", message)
    assert "not built to its end" in small.refused("start", slug=SLUG)

    (small.home().code / "requirements.txt").write_text("")
    assert small.done("create", email=EMAIL)["state"] == "ready"
    assert small.done("delete", slug=SLUG, force=True)["state"] == "deleted"


def test_what_was_never_built_to_its_end_is_made_ready_by_no_other_action(small: Yard) -> None:
    small.push("main", "manage.py", "raise SystemExit('no table')\n")
    assert "no table" in small.refused("create", email=EMAIL)
    assert small.record().step == "prepare" and small.record().venv
    small.push(EMAIL, "manage.py", "")
    for action in ("update", "start", "restart", "stop", "rebuild", "test"):
        assert "not built to its end: resume or delete it" in small.refused(action, slug=SLUG)
        assert (small.record().state, small.record().address) == ("failed", None)

    git("pull", "--quiet", folder=small.home().code)
    shown = small.done("create", email=EMAIL)
    assert shown["state"] == "ready" and shown["address"] and small.record().steps["prepare"] == record.DONE


def test_a_creation_that_was_cancelled_says_so_and_goes_on_when_asked_again(small: Yard) -> None:
    create = handler(small.plan, "create")
    outcome = run(create, email=EMAIL, interrupt=Cancelled, at_progress=5)
    found = small.record()
    assert (outcome.status, found.state, found.error, found.task) == ("cancelled", "failed", "Cancelled", None)
    assert small.done("create", email=EMAIL)["state"] == "ready"


def test_a_creation_that_never_came_far_is_deleted_without_the_repository(small: Yard) -> None:
    small.origin.rename(small.origin.with_name("away.git"))
    assert small.refused("create", email=EMAIL).startswith("git fetch: ")
    assert (small.record().state, small.record().step) == ("failed", "mirror")
    assert small.done("delete", slug=SLUG)["state"] == "deleted"


def test_what_cannot_be_taken_away_is_told_and_not_called_deleted(built: Yard) -> None:
    away = built.origin.with_name("away.git")
    built.origin.rename(away)
    assert "branch: git" in built.refused("delete", slug=SLUG)
    assert built.record().state == "delete_failed" and not built.home().path.exists()
    assert "is being deleted" in built.refused("create", email=EMAIL)
    away.rename(built.origin)
    assert built.done("delete", slug=SLUG)["state"] == "deleted"
    assert list(built.branches()) == ["main"]


def test_what_nobody_can_look_at_is_deleted_with_force(built: Yard) -> None:
    """As the steward refuses to read what is too large."""
    built.plan = built.planned(hands=_Blind)
    assert "cannot be seen" in built.refused("delete", slug=SLUG)
    assert built.done("delete", slug=SLUG, force=True)["state"] == "deleted"
    assert not built.home().path.exists() and list(built.branches()) == ["main"]


def test_an_origin_that_never_answers_keeps_nothing_but_its_branch(
    built: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "FETCH_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        origin = mirror.Origin(f"http://127.0.0.1:{silent.getsockname()[1]}/shop.git")
        outcome = do(replace(built.plan, mirror=mirror.Mirror(built.places.mirror, origin)), "delete", slug=SLUG)
    assert outcome.error is not None and outcome.error.message == "branch: git ls-remote has not ended within 1 seconds"
    assert built.record().state == "delete_failed" and not built.home().path.exists()
    assert built.done("delete", slug=SLUG)["state"] == "deleted"


def test_folders_in_folders_without_an_end_are_taken_away(built: Yard) -> None:
    deep = os.open(built.home().data, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d", dir_fd=deep)
        below = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(deep)
    assert built.done("restart", slug=SLUG)["state"] == "ready"  # what it takes of the disk was looked at
    assert built.done("delete", slug=SLUG)["state"] == "deleted"
    assert os.listdir(built.places.homes) == []


def test_settings_that_are_no_text_fail_an_action_at_once(built: Yard) -> None:
    env = built.home().env
    env.write_bytes(env.read_bytes() + "NAME=Jörg\n".encode("latin-1"))
    built.push(EMAIL, "text", "newer")
    assert str(env) in built.refused("update", slug=SLUG)


@pytest.mark.parametrize("action", ["update", "create"])
def test_what_stands_in_the_place_of_the_settings_or_the_media_fails_an_action_at_once(
    built: Yard, action: str
) -> None:
    in_the_way = built.home().env if action == "update" else built.home().media
    in_the_way.unlink()
    in_the_way.mkdir()
    built.push(EMAIL, "text", "newer")
    arguments = {"update": {"slug": SLUG}, "create": {"email": EMAIL}}
    assert str(in_the_way) in built.refused(action, **arguments[action])


def test_a_port_that_somebody_has_taken_is_missed_by_its_own_workspace_alone(folder: Path) -> None:
    yard = Yard(folder, source=small_project(folder), by_port=True)
    try:
        for email in (EMAIL, AL):
            yard.done("create", email=email)
        port = yard.record().port
        yard.done("stop", slug=SLUG)
        with socket.create_server(("127.0.0.1", port)):
            assert f"somebody else listens at 127.0.0.1:{port}" in yard.refused("start", slug=SLUG)
            for action in ("stop", "start"):
                yard.done(action, slug=ALS)
            SecondCircusd(yard.places.run, yard.places.homes).halt()
            assert yard.done("reconcile").get("failed") is None
            assert yard.get(slug=ALS)[0] == 200
        assert yard.done("start", slug=SLUG)["state"] == "ready"
        assert yard.get()[0] == 200
    finally:
        yard.close()


def test_a_port_of_nginx_that_somebody_has_taken_is_told_and_used_once_it_is_free(small: Yard) -> None:
    with socket.create_server(("127.0.0.1", small.port)):
        assert f"somebody else listens at 127.0.0.1:{small.port}" in small.refused("create", email=EMAIL)
    assert small.done("create", email=EMAIL)["state"] == "ready"
    assert small.get()[0] == 200
    kill(int((small.places.run / "nginx.pid").read_text()))  # the others keep its port
    (small.places.run / "nginx.log").rename(small.places.run / "nginx.log.1")
    for action in ("stop", "start"):
        small.done(action, slug=SLUG)
    assert small.get()[0] == 200


def test_a_folder_that_somebody_has_removed_is_missed_by_its_own_workspace_alone(built: Yard) -> None:
    built.done("create", email=AL)
    shutil.rmtree(built.home().path)
    SecondCircusd(built.places.run, built.places.homes).halt()
    for action in ("stop", "start"):
        built.done(action, slug=ALS)
    assert built.get(slug=ALS)[0] == 200


def test_what_could_not_be_started_is_started_when_it_can_be(built: Yard) -> None:
    python = built.home().venvs / "1" / "bin" / "python"
    python.rename(python.with_name("away"))
    os.kill(built.plan.hands.status(SLUG).pid, signal.SIGKILL)
    eventually(lambda: f"{SLUG} stopped" in (built.places.run / "circus.log").read_text())
    python.with_name("away").rename(python)
    assert built.done("start", slug=SLUG)["state"] == "ready"
    assert built.get()[0] == 200


def test_what_a_killed_launcher_has_left_makes_room_for_the_next(built: Yard) -> None:
    first, _, _ = built.get()[1].partition(" ")
    os.kill(built.plan.hands.status(SLUG).pid, signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(int(first)))
    assert built.done("restart", slug=SLUG)["state"] == "ready"
    assert built.get()[1].partition(" ")[0] != first


def test_the_log_of_a_server_that_prints_without_an_end_is_bounded(built: Yard) -> None:
    serve = built.home().code / "serve.py"
    serve.write_text("import sys\nfor _ in range(5000):\n    sys.stderr.write('x' * 999 + '\\n')\n" + serve.read_text())
    built.done("restart", slug=SLUG)
    assert sum(log.stat().st_size for log in built.home().log.glob("web.log*")) < 3_000_000


def test_what_a_server_prints_to_its_standard_error_after_much_else_is_in_its_log(built: Yard) -> None:
    serve = built.home().code / "serve.py"
    printed = "for _ in range(2500):\n    print('x' * 999)\nprint('no such table', file=sys.stderr)\n"
    serve.write_text(f"import sys\n{printed}{serve.read_text()}")
    built.done("restart", slug=SLUG)
    eventually(lambda: built.plan.hands.web_log(SLUG).endswith("x\nno such table"))


class _Edits:
    """Hands of which somebody changes the requirements while they are installed."""

    def __init__(self, hands: Hands, file: Path) -> None:
        self._hands = hands
        self._file = file

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._hands, verb)

    def run(self, speaker: Speaker, slug: str, step: str, *arguments: str | int, seconds: float) -> Ended:
        ended = self._hands.run(speaker, slug, step, *arguments, seconds=seconds)
        if step == REQUIREMENTS:
            self._file.write_text("# one more\n")
        return ended


def test_requirements_that_change_while_they_are_installed_are_installed_next(built: Yard) -> None:
    file = built.home().code / "requirements.txt"
    plan = replace(built.plan, hands=_Edits(built.plan.hands, file))
    assert do(plan, "rebuild", slug=SLUG).status == "succeeded"
    before = built.home().venv.readlink()
    built.done("create", email=EMAIL)
    assert built.home().venv.readlink() != before


def test_a_rebuild_switches_or_goes_back(built: Yard) -> None:
    first = (built.home().venv).readlink()
    assert requests_while(built, lambda: built.done("rebuild", slug=SLUG))
    second = (built.home().venv).readlink()
    assert first != second and len(list(built.home().venvs.iterdir())) == 1
    assert "there is no 'python9'" in built.refused("rebuild", slug=SLUG, python="python9")

    (built.home().code / "requirements.txt").write_text("./nothing-here\n")
    assert "requirements failed" in built.refused("rebuild", slug=SLUG)
    assert (built.home().venv).readlink() == second and built.get()[0] == 200
    assert built.record().state == "ready"


def test_after_a_rebuild_that_was_cut_off_the_record_names_the_python_in_use(
    built: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sys.executable
    built.plan = replace(built.plan, pythons=(*built.plan.pythons, other))
    save = Work.save

    def cut_off(work: Work) -> None:
        if work.look_again().venv == 2:
            raise Stopping
        save(work)

    with monkeypatch.context() as patched:
        patched.setattr(Work, "save", cut_off)
        built.do("rebuild", slug=SLUG, python=other)
    assert built.home().venv.readlink().name == "2" and built.record().python == "python3"
    assert built.done("rebuild", slug=SLUG)["python"] == other
    assert built.home().venv.readlink().name == "3"


def test_after_a_rebuild_that_was_cut_off_an_update_keeps_the_python_in_use(built: Yard) -> None:
    file = built.places.records / f"{SLUG}.json"
    before = json.loads(file.read_text())
    other = sys.executable
    built.plan = replace(built.plan, pythons=(*built.plan.pythons, other))
    built.done("rebuild", slug=SLUG, python=other)
    pythons = {"1": before["python"], "2": other}
    file.write_text(json.dumps(before | {"pythons": pythons}))  # as it was before the switch
    built.push(EMAIL, "requirements.txt", "# nothing yet\n")
    built.done("update", slug=SLUG)
    assert built.home().venv.readlink().name == "3" and built.record().python == other


def test_a_new_virtualenv_that_does_not_serve_gives_way_to_the_old_one(
    built: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HEALTH_SECONDS", 8.0)
    server = built.home().code / "serve.py"
    server.write_text(
        "import os, sys\nassert os.path.realpath(sys.prefix).endswith('/1'), 'too new'\n" + server.read_text()
    )
    message = built.refused("rebuild", slug=SLUG)
    assert "the old one is back in use" in message and "too new" in message
    assert built.home().venv.readlink().name == "1" and built.get()[0] == 200
    assert built.record().state == "ready"


def test_a_rebuild_goes_back_to_what_has_served_also_after_one_that_was_cut_off(
    built: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HEALTH_SECONDS", 10.0)
    with monkeypatch.context() as patched:

        def cut_off(*_: object) -> None:
            raise Stopping

        patched.setattr(serving.Health, "apply", cut_off)
        built.do("rebuild", slug=SLUG)
    assert built.home().venv.readlink().name == "2"
    server = built.home().code / "serve.py"
    old = "import os, sys\nassert os.path.realpath(sys.prefix).endswith('/1'), 'too new'\n"
    server.write_text(old + server.read_text())
    assert "the old one is back in use" in built.refused("rebuild", slug=SLUG)
    assert os.listdir(built.home().venvs) == ["1"] and built.get()[0] == 200
    found = built.record()
    assert (found.state, found.venv, found.proven_venv, [*found.pythons]) == ("ready", 1, 0, ["1"])


def test_what_a_request_has_just_woken_gets_a_new_process_at_an_update(built: Yard) -> None:
    aged(built, SLUG)
    built.done("reconcile")
    first, _, _ = built.get()[1].partition(" ")
    assert built.record().state == "asleep"
    built.push(EMAIL, "requirements.txt", "# nothing yet\n")
    assert built.done("update", slug=SLUG)["state"] == "ready"
    assert built.plan.hands.status(SLUG).pid
    assert built.get()[1].partition(" ")[0] != first and os.listdir(built.home().venvs) == ["2"]


def test_what_runs_keeps_its_virtualenv_until_another_process_serves(
    built: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    restart = built.plan.hands.restart

    def looking(slug: str) -> None:
        seen.append(sorted(os.listdir(built.home().venvs)))
        restart(slug)

    monkeypatch.setattr(built.plan.hands, "restart", looking)
    built.push(EMAIL, "requirements.txt", "# nothing yet\n")
    built.done("update", slug=SLUG)
    assert seen == [["1", "2"]] and os.listdir(built.home().venvs) == ["2"]


def test_what_is_idle_sleeps_without_a_process_and_wakes_at_a_request(built: Yard) -> None:
    neighbour = built.done("create", email="al@example.org")["slug"]
    built.done("reconcile")
    assert built.record().state == "ready"
    aged(built, SLUG)
    assert built.done("reconcile")["asleep"] == [SLUG]
    assert whose.marked(built.home().path) == [] and built.record().state == "asleep"
    assert built.get(slug=neighbour)[0] == 200  # which wakes nobody else
    assert built.done("reconcile") == {"orphans": []}
    assert whose.marked(built.home().path) == []

    assert built.get()[1].endswith(" hello")
    assert built.done("reconcile")["awake"] == [SLUG]
    assert built.record().state == "ready"


def test_what_nobody_has_used_for_long_expires_but_never_with_work_in_it(built: Yard) -> None:
    clean, stopped = (built.done("create", email=email)["slug"] for email in ("al@example.org", "bo@example.org"))
    built.done("stop", slug=stopped)
    (built.home().code / "text").write_text("mine")
    built.plan = replace(built.plan, idle_days=3660, expire_days=30)
    assert built.done("reconcile") == {"orphans": []}
    assert built.record().unpushed == ["uncommitted:  M text"] and built.record(clean).unpushed == []
    told = built.record(clean).expires_at
    assert told is not None and 29.9 < (moments.microseconds(told) / 1e6 - time.time()) / record.DAY_SECONDS <= 30
    for slug in (SLUG, clean, stopped):
        aged(built, slug)

    looked = built.do("reconcile")

    assert sorted(looked.result["expired"]) == sorted([clean, stopped])
    assert built.record(clean).state == built.record(stopped).state == "deleted"
    assert not built.home(clean).path.exists() and list(built.branches()) == [EMAIL, "main"]
    stays = built.record()
    assert stays.state == "ready" and stays.unpushed == ["uncommitted:  M text"] and built.get()[0] == 200
    assert any(f"{SLUG} has expired, and stays" in line.message for line in looked.logs)
    built.plan = replace(built.plan, expire_days=0)
    built.done("reconcile")
    assert built.record().expires_at is None


def test_a_creation_that_has_failed_early_expires_too(small: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    small.origin.rename(small.origin.with_name("away.git"))
    small.plan = replace(small.plan, expire_days=30)
    small.refused("create", email=EMAIL)
    assert small.record().expires_at is not None  # from the beginning
    aged(small, SLUG)
    monkeypatch.setattr(small.plan.hands, "last_used", None)  # the steward knows no user of it
    assert small.done("reconcile") == {"expired": [SLUG], "orphans": []}


def test_what_is_missing_is_started_and_what_is_nobodys_is_reported(built: Yard) -> None:
    for pid in built.supervisor():
        kill(pid)
    eventually(lambda: not built.plan.hands.status(SLUG).pid)
    orphan = built.places.homes / "w-nobody-aaaaaaaa"
    orphan.mkdir()
    done = built.done("reconcile")
    assert done == {"started": [SLUG], "orphans": [f"the folder {orphan}"]}
    assert eventually(lambda: built.get()[0] == 200) and orphan.is_dir()


@pytest.mark.parametrize("state", ["asleep", "stopped"])
def test_what_serves_those_that_rest_is_started_again(built: Yard, state: str) -> None:
    if state == "stopped":
        built.done("stop", slug=SLUG)
    else:
        aged(built, SLUG)
        built.done("reconcile")
    for pid in built.supervisor():
        kill(pid)
    eventually(lambda: not built.supervisor())
    assert built.done("reconcile") == {"orphans": []} and built.record().state == state
    assert built.supervisor()
    status, page = built.get()
    assert (status, page.endswith(" hello")) == ((200, True) if state == "asleep" else (502, False))


def test_one_that_sleeps_wakes_after_a_restore_from_a_backup(built: Yard) -> None:
    """Which has nothing of run/ and sockets/."""
    aged(built, SLUG)
    built.done("reconcile")
    built.plan.hands.stop(SLUG)
    assert built.done("reconcile") == {"asleep": [SLUG], "orphans": []}
    assert built.get()[1].endswith(" hello")


def test_what_has_failed_and_nobody_uses_is_stopped(built: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEALTH_SECONDS", 3.0)
    (built.home().code / "serve.py").write_text("1 / 0\n")
    built.refused("restart", slug=SLUG)
    assert built.record().state == "failed"
    assert built.done("reconcile") == {"orphans": []}  # somebody may be mending it
    changed(built, changed_at=moments.stamp(time.time() - 7200))
    os.utime(built.home().log / "access.log", (1, 1))
    assert built.done("reconcile") == {"stopped": [SLUG], "orphans": []}
    assert built.plan.hands.status(SLUG).state == "stopped" and whose.marked(built.home().path) == []
    assert built.record().state == "failed" and "It has failed" in built.get()[1]


def test_one_whose_task_was_lost_is_built_all_the_same(small: Yard) -> None:
    small.plan.shelf.request(EMAIL, most=1, most_building=1)
    assert small.done("reconcile") == {"orphans": []}
    changed(small, changed_at=moments.stamp(time.time() - 7200))
    assert small.done("reconcile") == {"resumed": [SLUG], "orphans": []}
    assert small.get()[1].endswith(" hello")


def test_what_was_cut_off_long_ago_goes_on(built: Yard) -> None:
    changed(built, state="creating", changed_at=moments.stamp(time.time() - 7200))
    assert built.done("reconcile")["resumed"] == [SLUG]
    assert built.record().state == record.READY


def test_a_workspace_that_takes_too_much_of_the_disk_fails(small: Yard) -> None:
    small.plan = small.planned(disk_mb=1)
    assert "MB of the disk; 1 are allowed" in small.refused("create", email=EMAIL)


def test_a_database_is_copied(small: Yard) -> None:
    small.places.root.mkdir()
    with sqlite3.connect(small.places.database) as database:
        database.execute("create table ware as select 'a lamp' as name")
    small.done("create", email=EMAIL)
    with sqlite3.connect(small.home().database) as copy:
        assert copy.execute("select name from ware").fetchall() == [("a lamp",)]


def changed(yard: Yard, **members: Any) -> None:
    file = yard.places.records / f"{SLUG}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | members))


def committed(code: Path) -> str:
    (code / "text").write_text("mine")
    git("commit", "--quiet", "--all", "--message=Mine", folder=code)
    return git("rev-parse", "HEAD", folder=code)


def aged(yard: Yard, slug: str) -> None:
    """As if nobody had used it for a year."""
    long_ago = time.time() - 366 * 86400
    file = yard.places.records / f"{slug}.json"
    old = moments.stamp(long_ago)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"last_used": old, "created_at": old}))
    used: Path = yard.home(slug).log / "access.log"
    if used.exists():
        os.utime(used, (long_ago, long_ago))


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
