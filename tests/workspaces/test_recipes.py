"""A step's command line is made here, of a slug and checked scalars: nothing else gets into it."""

from pathlib import Path

import pytest

from service.workspaces import hands, recipes, whose
from service.workspaces.mirror import Origin
from service.workspaces.places import Places

SHA = "a" * 40
GOOD = {
    "clone": [], "checkout": ["jo@example.org", SHA], "venv": ["1", "python3.11"], "requirements": ["1"],
    "freeze": ["12"], "switch": ["1"], "prune": ["1"], "database": ["copy"], "migrate": [], "collectstatic": [],
    "test": [], "git-status": [], "git-forward": ["jo@example.org"],
}  # fmt: skip
BAD = [
    ("clone", ["x"]), ("checkout", ["-x", SHA]), ("checkout", ["a b", SHA]), ("checkout", ["a..b", SHA]),
    ("checkout", ["a", "HEAD"]), ("checkout", ["a\nb", SHA]), ("venv", ["0", "python3"]), ("venv", ["../1", "python3"]),
    ("venv", ["1", "-c"]), ("venv", ["1", "python3; reboot"]), ("switch", ["1/../.."]), ("prune", ["*"]),
    ("database", ["/etc/passwd"]), ("git-forward", ["--upload-pack=x"]), ("sh", []), ("test", ["x"]),
]  # fmt: skip


def asked(tmp_path: Path, arguments: list[str]) -> recipes.Asked:
    places = Places.under(tmp_path)
    home = places.home("w-jo-aaaaaaaa")
    return recipes.Asked(places, home, arguments, "origin", "https://user:secret@index/simple")


def test_every_step_has_a_recipe() -> None:
    assert set(hands.STEPS) == set(GOOD)


@pytest.mark.parametrize("step", GOOD)
def test_a_step_is_marked_and_finds_nothing_of_the_callers_environment(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://secret")
    line = recipes.line(step, asked(tmp_path, GOOD[step]))
    assert "REDIS_URL" not in line.environment and line.folder.is_relative_to(tmp_path)
    assert line.environment[whose.MARK] == str(tmp_path / "w" / "w-jo-aaaaaaaa")
    has_index = "secret" in str(line.environment)
    assert has_index == (step == "requirements") and "secret" not in str(line.words)


@pytest.mark.parametrize(("step", "arguments"), BAD)
def test_what_a_step_does_not_take_is_refused(step: str, arguments: list[str], tmp_path: Path) -> None:
    with pytest.raises(recipes.BadArguments):
        recipes.line(step, asked(tmp_path, arguments))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:token@h/p.git", "https://h/p.git"),
        ("https://h/p.git", "https://h/p.git"),
        ("git@h:p.git", "git@h:p.git"),
        ("ssh://git@h/p.git", "ssh://git@h/p.git"),
        ("/srv/p.git", "/srv/p.git"),
    ],
)
def test_the_origin_of_a_clone_has_no_secrets(url: str, shown: str) -> None:
    assert Origin(url).without_secrets == shown
