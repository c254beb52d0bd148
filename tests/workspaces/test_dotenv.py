"""The .env of a workspace: the project's example, what a person has changed, and values of ours."""

import subprocess
from pathlib import Path

import pytest

from service.workspaces import dotenv, launch

EXAMPLE = "# The shop\nDEBUG=1\nSECRET_KEY=\nexport PORT = 8000 # of the shop\n"
VALUES = {"PORT": "20001", "ALLOWED_HOSTS": "a.localhost"}


def test_the_examples_lines_stay_and_ours_take_their_places() -> None:
    text = dotenv.merged(EXAMPLE, "", VALUES)
    assert text.splitlines()[2:4] == ["# The shop", "DEBUG=1"]
    values = dotenv.read(text)
    assert len(values["SECRET_KEY"]) > 40
    assert (values["PORT"], values["ALLOWED_HOSTS"], values["DEBUG"]) == ("20001", "a.localhost", "1")


def test_a_second_writing_keeps_the_secret_and_what_a_person_has_changed() -> None:
    first = dotenv.merged(EXAMPLE, "", VALUES)
    changed = first.replace("DEBUG=1", "DEBUG=0\nMINE=x")
    second = dotenv.merged(EXAMPLE + "NEW=1\n", changed, VALUES | {"PORT": "20003"})
    assert dotenv.read(second) == dotenv.read(first) | {"DEBUG": "0", "MINE": "x", "NEW": "1", "PORT": "20003"}
    assert second.splitlines()[2] == "# The shop"


def test_its_head_says_when_a_change_counts_and_is_written_once() -> None:
    first = dotenv.merged(EXAMPLE, "", VALUES)
    assert "after a change, restart the workspace" in first.splitlines()[0]
    assert first.count("restart the workspace") == dotenv.merged(EXAMPLE, first, VALUES).count("restart the workspace")
    without = first.partition("# The shop")[2]  # a person has taken it away
    assert "restart" not in dotenv.merged(EXAMPLE, without, VALUES)
    assert dotenv.read(first) == launch.dotenv(first)


@pytest.mark.parametrize("value", ["", "a b", 'a"b', "a\\b", "a'b", "#x", "$(x)", "ü"])
def test_a_value_is_read_as_it_was_written_by_the_launcher_too(value: str) -> None:
    text = dotenv.merged("", "", {"NAME": value})
    assert dotenv.read(text)["NAME"] == launch.dotenv(text)["NAME"] == value


def test_it_is_one_line() -> None:
    with pytest.raises(ValueError, match="one line"):
        dotenv.merged("", "", {"NAME": "a\nB=c"})


def test_only_owner_and_group_may_read_it_and_a_link_is_not_followed(tmp_path: Path) -> None:
    file, other = tmp_path / ".env", tmp_path / "other"
    other.write_text("untouched")
    (tmp_path / ".env.new").symlink_to(other)
    dotenv.write(file, "A=1\n")
    assert file.stat().st_mode & 0o777 == 0o640 and file.read_text() == "A=1\n"
    assert other.read_text() == "untouched"


def test_the_launcher_needs_the_standard_library_alone() -> None:
    words = ["/usr/bin/env", "-i", "python3", "-I", "-S", launch.__file__]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "IndexError" in done.stderr and "Import" not in done.stderr
