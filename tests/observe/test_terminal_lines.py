"""What people see on the terminal has the time of the log files."""

import logging
import re
import time

import pytest

from service.observe.output import Dated


def test_a_line_has_its_time_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        record = logging.makeLogRecord({"created": 0.9, "msg": "it is late"})
        assert Dated("%(asctime)s %(message)s").format(record) == "1970-01-01T00:00:00Z it is late"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_circusds_lines_have_one() -> None:
    from service.supervise import circusd_log

    handler = circusd_log.terminal_handler()
    line = handler.format(logging.makeLogRecord({"msg": "a process has ended"}))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ circusd: a process has ended", line)
