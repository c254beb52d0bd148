"""Every example of docs/client.md does what the page says."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sandbox_client
from sandbox_client import Client, SandboxError, errors
from tests.system.instance import ROOT

PAGE = ROOT / "docs" / "client.md"


def examples(language: str, page: Path = PAGE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def test_the_examples_run(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SANDBOX_URL", url)
    with Client() as sandbox:
        names: dict[str, Any] = {}
        for example in examples("python"):
            names["sandbox"] = sandbox
            exec(compile(example, str(PAGE), "exec"), names)
        assert len(names["tasks"]) == 12
        # What the page retries runs once more, to its end.
        assert {task.wait(timeout=60).status for task in names["tasks"]} == {"succeeded", "failed"}
    shown = capsys.readouterr().out
    assert shown.startswith("/reports/2026-10.pdf\n")
    assert "report.build Builds the report of a month.\n" in shown
    assert "args args: Expected `str`, got `int`" in shown


@pytest.mark.parametrize("folder", [ROOT, ROOT / "client"], ids=["README.md", "client/README.md"])
def test_the_example_of_the_readme_runs(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SANDBOX_URL", url)
    [example] = [each for each in examples("python", folder / "README.md") if "sandbox_client" in each]
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out == "hello\n"


def user_tests() -> list[Callable[[], None]]:
    names: dict[str, Any] = {}
    exec(compile(examples("python")[-1], str(PAGE), "exec"), names)
    return [found for name, found in names.items() if name.startswith("test_")]


@pytest.mark.parametrize("test", user_tests(), ids=lambda test: test.__name__)
def test_a_test_of_a_user_passes(test: Callable[[], None]) -> None:
    test()


def test_the_page_names_each_exception_with_its_status() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    named = {name: row for row in rows for name in re.findall(r"`([A-Z]\w+[a-z])`", row.split(" | ")[0])}
    public = [getattr(sandbox_client, name) for name in sandbox_client.__all__]
    raised = {each.__name__ for each in public if isinstance(each, type) and issubclass(each, SandboxError)}
    assert named.keys() == raised - {"SandboxError"}
    for status, kind in errors.BY_STATUS.items():
        assert f"`{status}`" in named[kind.__name__]
