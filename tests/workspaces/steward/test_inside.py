"""The folders of a workspace, made by a process that is killed in the midst of it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from service.workspaces import looking
from service.workspaces.places import Home
from steward import inside


@pytest.mark.parametrize("point", range(3))
def test_folders_that_lack_a_right_count_as_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: int
) -> None:
    home = Home(tmp_path / "w-jo-aaaaaaaa")
    given = []

    def open_to(folder: Path, *_: int, and_below: bool) -> None:
        given.append(folder)
        if len(given) > point:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(inside, "open_to", open_to)
        with pytest.raises(KeyboardInterrupt):
            inside.lay_out(home, 33)
        assert not looking.look(home)["folders"]
        patched.setattr(inside, "open_to", lambda *_, **__: None)
        inside.lay_out(home, 33)
    assert looking.look(home)["folders"] and home.static.is_dir()


@pytest.mark.parametrize("lay", [os.mkfifo, os.mkdir, lambda file: os.symlink("/etc/passwd", file)])
def test_a_log_that_is_no_file_has_no_lines(tmp_path: Path, lay: Callable[[Path], None]) -> None:
    lay(tmp_path / "web.log")
    assert inside.last_lines(tmp_path / "web.log") == []
