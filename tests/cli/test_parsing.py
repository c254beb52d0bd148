"""What an option's text means."""

import click
import pytest

from service.cli.main import main
from service.cli.parsing import Duration

TIMES = [("90", 90), ("0", 0), ("0.5", 0.5), ("5m", 300), ("1h30m", 5400), ("2d", 172_800)]


@pytest.mark.parametrize(("text", "seconds"), TIMES)
def test_a_duration_is_seconds_or_has_units(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400", "1e300", "-1", "soon", "5 m", "", "9" * 400 + "d"])
def test_what_is_no_time_that_one_can_wait_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Duration().convert(text, None, None)


@pytest.mark.parametrize("text", ["nan", "inf", "0.4", "-1"])
@pytest.mark.parametrize("words", [["top", "--every"], ["task", "wait", "0" * 64, "--timeout"], ["ready", "--wait"]])
def test_each_command_refuses_it(monkeypatch: pytest.MonkeyPatch, words: list[str], text: str) -> None:
    monkeypatch.setenv("SANDBOX_URL", "http://127.0.0.1:1")
    if words[0] == "top" or text != "0.4":
        assert main([*words, text]) == 2
