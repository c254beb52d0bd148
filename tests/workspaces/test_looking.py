"""Whatever a stranger makes of its folder, looking at it comes to its end, and says what is there."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from service.workspaces import looking, recipes
from service.workspaces.places import Home, Places
from tests.workspaces.yard import git

SHA = "a" * 40


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    for folder in (made.code / ".git" / "refs" / "heads", made.venvs / "1", made.data, made.log):
        folder.mkdir(parents=True)
    (made.code / ".git" / "HEAD").write_text("ref: refs/heads/jo\n")
    (made.code / ".git" / "refs" / "heads" / "jo").write_text(f"{SHA}\n")
    (made.venvs / "1" / "freeze.txt").touch()
    (made.venvs / "1" / looking.MARK).write_text("hash")
    made.venv.symlink_to("venvs/1")
    return made


def test_what_is_there_is_seen(home: Home) -> None:
    found = looking.look(home)
    assert (found["branch"], found["sha"], found["code"], found["folders"]) == ("jo", SHA, True, True)
    assert (found["venvs"], found["venv"], found["requirements"]) == ({1: "hash"}, 1, looking.NOTHING)


@pytest.mark.parametrize("name", ["²", "٣", "1234567", "01", "-1", "1\n"])
def test_what_is_no_number_is_no_virtualenv(home: Home, name: str) -> None:
    (home.venvs / name).mkdir()
    (home.venvs / name / "freeze.txt").touch()
    home.venv.unlink()
    home.venv.symlink_to(f"venvs/{name}")
    found = looking.look(home)
    assert (found["venvs"], found["venv"]) == ({1: "hash"}, 0)


def test_only_small_regular_files_are_read(home: Home, tmp_path: Path) -> None:
    head, secret = home.code / ".git" / "HEAD", tmp_path / "secret"
    secret.write_text("secret")
    for make in (
        lambda: os.mkfifo(head),
        lambda: head.symlink_to(secret),
        lambda: head.mkdir(),
        lambda: os.truncate(os.open(head, os.O_CREAT | os.O_WRONLY), 1 << 40),
        lambda: head.write_bytes(b"ref: a\0b"),
    ):
        head.rmdir() if head.is_dir() else head.unlink()
        make()
        assert looking.look(home)["sha"] == ""


def test_a_file_instead_of_a_folder_hides_nothing_else(home: Home) -> None:
    os.rename(home.venvs, home.path / "away")
    os.mkfifo(home.venvs)
    found = looking.look(home)
    assert (found["venvs"], found["folders"], found["branch"]) == ({}, False, "jo")


@pytest.mark.parametrize("folder", ["venvs", "venvs/1", "code", "code/.git", "."])
def test_a_folder_that_its_own_user_has_closed_raises_nothing(home: Home, folder: str) -> None:
    (home.path / folder).chmod(0)
    if os.geteuid() == 0:
        for path in (home.path, *home.path.parents[:3]):
            os.chmod(path, 0o755) if path != home.path / folder else None
        child = os.fork()
        if child == 0:
            os.setresuid(65534, 65534, 65534)
            try:
                looking.look(home)
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    else:
        looking.look(home)
    (home.path / folder).chmod(0o755)


def test_the_log_is_read_from_its_end(home: Home) -> None:
    (home.log / "web.log").write_text("x\n" * looking.SMALL + "the last\n")
    assert looking.end_of_log(home).endswith("x\nthe last")


# --- the work that a deletion would lose --------------------------------------------------------------


@pytest.fixture
def clone(tmp_path: Path) -> Home:
    places = Places.under(tmp_path / "ws")
    home = places.home("w-jo-aaaaaaaa")
    for name in ("origin", "part"):
        git("init", "--quiet", "--initial-branch=main", str(tmp_path / name), folder=tmp_path)
        (tmp_path / name / "text").write_text("hello")
        git("add", "text", folder=tmp_path / name)
        git("commit", "--quiet", "--message=First", folder=tmp_path / name)
    home.path.mkdir(parents=True)
    git("clone", "--quiet", str(tmp_path / "origin"), str(home.code), folder=tmp_path)
    return home


def status(home: Home) -> tuple[int, list[str]]:
    line = recipes.line("git-status", recipes.Asked(Places.under(home.path.parents[1]), home, (), "origin"))
    done = subprocess.run(
        line.words, cwd=line.folder, env=dict(line.environment), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.splitlines()


def test_a_clean_clone_has_none(clone: Home) -> None:
    assert status(clone) == (0, [])


def test_files_that_the_settings_of_the_clone_hide_are_told(clone: Home) -> None:
    git("config", "status.showUntrackedFiles", "no", folder=clone.code)
    (clone.code / "new").touch()
    (clone.code / "text").write_text("mine")
    git("stash", folder=clone.code)
    (clone.code / "text").write_text("mine, too")
    code, lines = status(clone)
    assert code == 0 and lines[:2] == ["uncommitted:  M text", "uncommitted: ?? new"]
    assert lines[2].startswith("stashed: stash@{0}: ") and len(lines) == 3


def test_work_in_a_submodule_is_told(clone: Home, tmp_path: Path) -> None:
    allowed = ("-c", "protocol.file.allow=always")
    git(*allowed, "submodule", "--quiet", "add", str(tmp_path / "part"), "part", folder=clone.code)
    git("config", "--file", ".gitmodules", "submodule.part.ignore", "all", folder=clone.code)
    git("add", ".gitmodules", folder=clone.code)
    git("commit", "--quiet", "--message=Part", folder=clone.code)
    git("push", "--quiet", "origin", "HEAD:refs/heads/jo", folder=clone.code)
    git("fetch", "--quiet", folder=clone.code)
    assert status(clone) == (0, [])
    (clone.code / "part" / "text").write_text("mine")
    assert status(clone) == (0, ["uncommitted:  M part"])


def with_part(clone: Home, tmp_path: Path, name: str = "part") -> Path:
    """The clone, with a submodule that its origin knows."""
    git("clone", "--quiet", "--", str(tmp_path / "part"), f"./{name}", folder=clone.code)
    git("add", "--", f"./{name}", folder=clone.code)
    git("commit", "--quiet", "--message=Part", folder=clone.code)
    pushed(clone.code)
    assert status(clone) == (0, [])
    return clone.code / name


def pushed(code: Path) -> None:
    git("push", "--quiet", "origin", "HEAD:refs/heads/jo", folder=code)
    git("fetch", "--quiet", folder=code)


def committed(folder: Path, text: str = "mine") -> None:
    (folder / "text").write_text(text)
    git("commit", "--quiet", "--all", "--message=Mine", folder=folder)


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\tb", "50%h", "a%x0ab", "%w(9)", "-part", "é $x `id`", "a  "])
def test_commits_of_a_submodule_are_told_with_its_name_whatever_that_is(clone: Home, tmp_path: Path, name: str) -> None:
    part = with_part(clone, tmp_path, name)
    committed(part)
    git("add", "--all", folder=clone.code)
    git("commit", "--quiet", "--message=Pinned", folder=clone.code)
    pushed(clone.code)
    sha = git("rev-parse", "--short", "HEAD", folder=part)
    assert status(clone) == (0, [f"not pushed: in {name}: {sha} Mine"])


def test_a_commit_of_a_submodule_that_a_tag_holds_is_the_projects(clone: Home, tmp_path: Path) -> None:
    part, origin = with_part(clone, tmp_path), tmp_path / "part"
    git("checkout", "--quiet", "--detach", folder=origin)
    committed(origin)
    git("tag", "first", folder=origin)
    git("fetch", "--quiet", "--tags", folder=part)
    git("checkout", "--quiet", "first", folder=part)
    git("commit", "--quiet", "--all", "--message=Pinned", folder=clone.code)
    pushed(clone.code)
    assert status(clone) == (0, [])


def test_a_commit_at_which_the_history_of_a_submodule_ends_was_fetched(clone: Home, tmp_path: Path) -> None:
    part, origin = with_part(clone, tmp_path), tmp_path / "part"
    for text in ("newer", "newest"):
        committed(origin, text)
    url = f"file://{origin}"
    git("fetch", "--quiet", "--depth=1", url, git("rev-parse", "HEAD", folder=origin), folder=part)
    git("checkout", "--quiet", "FETCH_HEAD", folder=part)
    git("commit", "--quiet", "--all", "--message=Pinned", folder=clone.code)
    pushed(clone.code)
    assert status(clone) == (0, [])
    committed(part)
    code, [_, line] = status(clone)
    assert code == 0 and line.startswith("not pushed: in part: ")


def test_a_submodule_whose_folder_leads_back_to_the_clone_is_not_looked_into(clone: Home, tmp_path: Path) -> None:
    part = with_part(clone, tmp_path, f"up/{clone.code.name}")
    shutil.rmtree(part.parent)
    part.parent.symlink_to("..")
    code, lines = status(clone)
    assert code == 0 and lines and all(line.startswith("uncommitted: ") for line in lines)


def test_commits_of_a_submodule_that_are_nowhere_else_are_told(clone: Home, tmp_path: Path) -> None:
    allowed = ("-c", "protocol.file.allow=always")
    git(*allowed, "submodule", "--quiet", "add", str(tmp_path / "part"), "part", folder=clone.code)
    (clone.code / "part" / "text").write_text("mine")
    git("commit", "--quiet", "--all", "--message=Mine", folder=clone.code / "part")
    (clone.code / "part" / "text").write_text("mine, too")
    git("stash", folder=clone.code / "part")
    git("add", "part", folder=clone.code)
    git("commit", "--quiet", "--message=Part", folder=clone.code)
    git("push", "--quiet", "origin", "HEAD:refs/heads/jo", folder=clone.code)
    git("fetch", "--quiet", folder=clone.code)
    code, lines = status(clone)
    assert code == 0 and [line.partition(" in part: ")[0] for line in lines] == ["not pushed:", "stashed:"]
    git("push", "--quiet", "origin", "HEAD:refs/heads/mine", folder=clone.code / "part")
    git("stash", "drop", folder=clone.code / "part")
    assert status(clone) == (0, [])


def test_work_in_another_working_tree_of_the_clone_is_told(clone: Home, tmp_path: Path) -> None:
    git("worktree", "add", "--quiet", "--detach", "../beside", folder=clone.code)
    git("worktree", "add", "--quiet", "-b", "gone", "../gone", folder=clone.code)
    shutil.rmtree(clone.path / "gone")
    beside = clone.path / "beside"
    assert status(clone) == (0, [])
    (beside / "text").write_text("mine")
    assert status(clone) == (0, [f"uncommitted: in {beside}:  M text"])
    git("commit", "--quiet", "--all", "--message=Mine", folder=beside)
    code, [line] = status(clone)
    assert code == 0 and line.startswith(f"not pushed: in {beside}: ") and line.endswith(" Mine")
    (beside / ".git").write_text("rubbish")
    assert status(clone)[0] != 0
    (beside / ".git").unlink()  # a folder like any other
    assert status(clone) == (0, [])


def test_work_in_a_working_tree_is_told_with_its_name_whatever_that_is(clone: Home) -> None:
    beside = clone.path / "50%h%x0a"
    git("worktree", "add", "--quiet", "--detach", str(beside), folder=clone.code)
    committed(beside)
    sha = git("rev-parse", "--short", "HEAD", folder=beside)
    assert status(clone) == (0, [f"not pushed: in {beside}: {sha} Mine"])


def test_commits_of_a_submodule_of_another_working_tree_are_told(clone: Home, tmp_path: Path) -> None:
    with_part(clone, tmp_path)
    beside = clone.path / "beside"
    git("worktree", "add", "--quiet", "--detach", str(beside), folder=clone.code)
    git("clone", "--quiet", str(tmp_path / "part"), "part", folder=beside)
    assert status(clone) == (0, [])
    committed(beside / "part")
    git("commit", "--quiet", "--all", "--message=Pinned", folder=beside)
    pushed(beside)
    code, [line] = status(clone)
    assert code == 0 and line.startswith(f"not pushed: in {beside}: in part: ") and line.endswith(" Mine")


@pytest.mark.parametrize("broken", ["HEAD", "index", "", "objects"])
def test_what_git_cannot_read_fails(clone: Home, broken: str) -> None:
    git("init", "--quiet", folder=clone.path.parent)  # a repository around it is not asked instead
    file = clone.code / ".git" / broken
    if broken == "index":
        file.write_bytes(b"rubbish")
    else:
        os.rename(file, clone.path / "away")
    assert status(clone)[0] != 0
