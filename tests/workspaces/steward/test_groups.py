"""The limits of a control group, in the files of either version."""

from pathlib import Path
from typing import Any

import pytest

from steward.groups import Groups

MB = 1 << 20
SLUG = "w-jo-aaaaaaaa"


class Limits:
    memory_mb = 512
    processes = 40


def made(tmp_path: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What was written, in its order."""
    group = tmp_path / SLUG
    group.mkdir()
    for name, text in files.items():
        (group / name).write_text(text)
    config: Any = Limits()
    written: list[tuple[str, str]] = []
    monkeypatch.setattr(Path, "write_text", lambda file, text: written.append((file.name, text)))
    Groups(config, {"memory": tmp_path, "pids": tmp_path}).make(SLUG)
    return written


def test_version_2_has_no_swap_beside_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"memory.max": "max\n", "memory.swap.max": "max\n", "pids.max": "max\n"}
    assert dict(made(tmp_path, files, monkeypatch)) == {
        "memory.max": str(512 * MB),
        "memory.swap.max": "0",
        "pids.max": "40",
    }


@pytest.mark.parametrize(("before", "first"), [(1 << 62, "limit"), (512 * MB, "limit"), (256 * MB, "memsw.limit")])
def test_version_1_counts_swap_as_memory(
    before: int, first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refuses a moment in which both together are less than memory alone."""
    names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    written = made(tmp_path, dict.fromkeys(names, f"{before}\n"), monkeypatch)
    assert dict(written) == dict.fromkeys(names, str(512 * MB))
    assert written[0][0] == f"memory.{first}_in_bytes"


def test_a_kernel_that_counts_no_swap_is_asked_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(tmp_path, {"memory.max": "max\n"}, monkeypatch) == [("memory.max", str(512 * MB))]
