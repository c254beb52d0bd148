"""What is said before the start."""

import os

import pytest

from service import settings
from service.supervise.start import checks, environment


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("SANDBOX_WEB_WOKERS", "sandbox: SANDBOX_WEB_WOKERS is set, but is no setting; SANDBOX_WEB_WORKERS is one.\n"),
        ("SANDBOX_TASK", "sandbox: SANDBOX_TASK is set, but is no setting; SANDBOX_TASKS is one.\n"),
        ("SANDBOX_URL_OF_MY_SHOP", ""),
    ],
)
def test_a_setting_that_is_misspelt_is_named(
    name: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = settings.read({"SANDBOX_LEASE": str(20 + len(name))})
    for exported, value in environment.variables(read).items():
        monkeypatch.setenv(exported, value)
    monkeypatch.setenv(name, "3")
    checks._warn_of_slips(read)
    assert capsys.readouterr().err == said
    assert name in os.environ
