"""What circusd leaves for the charts."""

from pathlib import Path

from service.observe import marks


def test_what_is_left_is_found_from_the_oldest_on(tmp_path: Path) -> None:
    marks.leave(tmp_path, "started", "circusd", "/srv/one")
    marks.leave(tmp_path, "refused", "sandbox", "/srv/two")
    first, second = marks.left(tmp_path)
    assert {name: first.facts[name] for name in ("what", "watcher", "release")} == {
        "what": "started", "watcher": "circusd", "release": "/srv/one",
    }  # fmt: skip
    assert first.at < second.at and first.facts["at"].endswith("Z")
    first.path.unlink()
    assert [mark.facts["what"] for mark in marks.left(tmp_path)] == ["refused"]


def test_where_nobody_takes_them_the_newest_stay(tmp_path: Path) -> None:
    for number in range(marks.MOST + 5):
        marks.leave(tmp_path, "reloaded", "sandbox", str(number))
    found = [mark.facts["release"] for mark in marks.left(tmp_path)]
    assert found == [str(number) for number in range(5, marks.MOST + 5)]


def test_what_cannot_be_read_is_removed_and_what_cannot_be_written_is_let_be(tmp_path: Path) -> None:
    marks.leave(tmp_path, "started", "circusd", "")
    (tmp_path / marks.FOLDER / "1.json").write_text("{")
    (tmp_path / marks.FOLDER / "x.json").write_text("{}")
    assert len(list(marks.left(tmp_path))) == 1
    assert len(list((tmp_path / marks.FOLDER).iterdir())) == 1
    marks.leave(tmp_path / marks.FOLDER / "1.json" / "no" / "folder", "started", "circusd", "")
    (tmp_path / "file").write_text("")
    marks.leave(tmp_path / "file", "started", "circusd", "")
    assert list(marks.left(tmp_path / "file")) == []
