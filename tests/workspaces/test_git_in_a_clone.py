"""What git is run for in a workspace's clone, killed at any point of it."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from service.workspaces import recipes, whose
from service.workspaces.places import Places
from tests.workspaces.conftest import small_project
from tests.workspaces.yard import EMAIL, SLUG, git, make_origin

LOCKS = ("index.lock", "config.lock", "refs/heads/main.lock", f"refs/remotes/origin/{EMAIL}.lock")
DEADLY = """#!/bin/sh
echo >>"{counted}"
[ "$(wc -l <"{counted}")" -ne {at} ] || {{ {last}; kill -9 0; }}
exec {git} "$@"
"""
SLOW = """#!/bin/sh
for word; do [ "$word" != repack ] || sleep 1; done
exec {git} --exec-path="{folder}" "$@"
"""


class Clone:
    def __init__(self, folder: Path) -> None:
        self.origin = make_origin(folder, small_project(folder))
        self.places = Places.under(folder / "ws")
        self.home = self.places.home(SLUG)
        self.home.data.mkdir(parents=True)
        self.places.mirror.symlink_to(self.origin)
        self.sha = git("rev-parse", "main", folder=self.origin)
        assert self.done("clone") == 0

    def done(self, step: str, *arguments: str, programs: Path | None = None) -> int:
        line = recipes.line(step, recipes.Asked(self.places, self.home, arguments, str(self.origin)))
        path = {"PATH": f"{programs}:{recipes.PATH}"} if programs else {}
        with subprocess.Popen(
            line.words, cwd=line.folder, env={**line.environment, **path}, start_new_session=True
        ) as process:
            return process.wait(60)

    def killed(self, step: str, *arguments: str, at: int, last: str = "") -> bool:
        """When git is run for this time, and what it has done by then. Is it run so often?"""
        locks = " ".join(f'".git/{name}"' for name in LOCKS)
        program = self.home.data / "git"
        counted = self.home.data / "counted"
        counted.write_text("")
        last = last or f"mkdir -p .git/refs/remotes/origin; touch {locks}"
        program.write_text(DEADLY.format(counted=counted, at=at, last=last, git=shutil.which("git")))
        program.chmod(0o755)
        return self.done(step, *arguments, programs=self.home.data) == -signal.SIGKILL

    @property
    def branch(self) -> str:
        return git("symbolic-ref", "--short", "HEAD", folder=self.home.code)

    @property
    def locks(self) -> list[Path]:
        return list((self.home.code / ".git").glob("**/*.lock"))

    def push(self, text: str) -> str:
        work = self.home.path / "elsewhere"
        shutil.rmtree(work, ignore_errors=True)
        git("clone", "--quiet", str(self.origin), str(work), folder=self.home.path)
        git("checkout", "--quiet", "-B", EMAIL, f"origin/{EMAIL}", folder=work)
        (work / "text").write_text(text)
        git("commit", "--quiet", "--all", f"--message={text}", folder=work)
        git("push", "--quiet", "origin", EMAIL, folder=work)
        return git("rev-parse", "HEAD", folder=work)


@pytest.fixture
def clone(folder: Path) -> Clone:
    made = Clone(folder)
    git("branch", EMAIL, "main", folder=made.origin)
    return made


def test_a_checkout_that_is_killed_at_any_point_is_whole_after_the_next(clone: Clone) -> None:
    at = 1
    while clone.killed("checkout", EMAIL, clone.sha, at=at):
        if clone.branch == EMAIL:  # nobody comes again
            break
        at += 1
    assert at > 5 and clone.branch == EMAIL
    assert "/.env\n" in (clone.home.code / ".git" / "info" / "exclude").read_text()
    assert git("config", f"branch.{EMAIL}.merge", folder=clone.home.code) == f"refs/heads/{EMAIL}"
    assert clone.locks == [] and not (clone.home.code / ".git" / "sandbox.begun").exists()


def test_a_branch_that_has_become_a_folder_of_branches_since_the_clone_was_made_hinders_no_checkout(
    clone: Clone,
) -> None:
    git("branch", "feature", folder=clone.origin)
    git("fetch", "--quiet", "origin", folder=clone.home.code)
    git("branch", "--move", "feature", "feature/first", folder=clone.origin)
    assert clone.done("checkout", EMAIL, clone.sha) == 0
    assert clone.branch == EMAIL


def test_a_checkout_that_is_killed_when_the_branch_is_made_is_at_it_after_the_next(clone: Clone) -> None:
    assert clone.killed("checkout", EMAIL, clone.sha, at=6, last=f"{shutil.which('git')} branch '{EMAIL}'")
    assert clone.branch == "main" and git("rev-parse", EMAIL, folder=clone.home.code) == clone.sha
    assert clone.done("checkout", EMAIL, clone.sha) == 0
    assert clone.branch == EMAIL
    git("checkout", "--quiet", "main", folder=clone.home.code)
    assert clone.done("checkout", EMAIL, clone.sha) == 0
    assert clone.branch == "main"  # which is the person's doing


def test_an_update_goes_on_though_a_killed_one_has_left_locks(clone: Clone) -> None:
    assert clone.done("checkout", EMAIL, clone.sha) == 0
    sha = clone.push("newer")
    at = 2  # the first only looks
    while clone.killed("git-forward", EMAIL, at=at):
        assert clone.locks
        at += 1
    assert at > 3 and git("rev-parse", "HEAD", folder=clone.home.code) == sha and clone.locks == []


def test_a_lock_that_is_a_persons_stays(clone: Clone) -> None:
    assert clone.done("checkout", EMAIL, clone.sha) == 0
    clone.push("newer")
    lock = clone.home.code / ".git" / "index.lock"
    lock.touch()
    assert clone.done("git-forward", EMAIL) != 0 and lock.exists()  # nothing of ours was killed
    lock.unlink()
    assert clone.killed("git-forward", EMAIL, at=2)
    waiting = ["git", "-c", "alias.wait=!sleep 60", "wait"]
    with subprocess.Popen(waiting, cwd=clone.home.code, start_new_session=True) as at_work:
        try:
            assert clone.done("git-forward", EMAIL) != 0 and lock.exists()
        finally:
            os.killpg(at_work.pid, signal.SIGKILL)
    assert clone.done("git-forward", EMAIL) == 0 and not lock.exists()


def test_what_git_clears_up_beside_an_update_is_done_with_it(clone: Clone) -> None:
    assert clone.done("checkout", EMAIL, clone.sha) == 0
    for name, value in (("gc.autoPackLimit", "1"), ("fetch.unpackLimit", "1")):  # as after many updates
        git("config", name, value, folder=clone.home.code)
    slow = clone.home.data / "git"
    slow.write_text(SLOW.format(git=shutil.which("git"), folder=slow.parent))
    slow.chmod(0o755)
    for text in ("newer", "newest"):
        clone.push(text)
        assert clone.done("git-forward", EMAIL, programs=slow.parent) == 0
        assert whose.marked(clone.home.path, whose.STEPS) == []
    assert len(list((clone.home.code / ".git" / "objects" / "pack").glob("*.pack"))) == 1


@pytest.mark.parametrize("name", ["gc.log.lock", "objects/maintenance.lock"])
def test_what_a_killed_clearing_up_has_left_keeps_no_later_one_from_it(clone: Clone, name: str) -> None:
    assert clone.done("checkout", EMAIL, clone.sha) == 0
    lock = clone.home.code / ".git" / name
    lock.touch()
    assert clone.done("git-forward", EMAIL) == 0 and lock.exists()  # it may be at work
    os.utime(lock, (1, 1))
    assert clone.done("git-forward", EMAIL) == 0 and not lock.exists()


def test_to_look_leaves_no_lock_behind(clone: Clone) -> None:
    line = recipes.line("git-status", recipes.Asked(clone.places, clone.home, (), ""))
    assert line.environment["GIT_OPTIONAL_LOCKS"] == "0"
