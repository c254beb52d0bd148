"""A small file is there as it was, or as it is now."""

import os
from pathlib import Path

import pytest

from service.workspaces import durable


def test_a_write_that_is_cut_off_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ledger.json"
    durable.write(file, "before")

    def full(_: int) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="full"):
            durable.write(file, "after")
    assert file.read_text() == "before"
    durable.write(file, "after")
    assert file.read_text() == "after" and os.listdir(tmp_path) == ["ledger.json"]
