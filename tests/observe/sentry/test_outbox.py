"""The exchange with servers of every kind. Pauses are shortened, so that the tests are quick."""

import logging
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from service.observe.sentry import outbox as module
from service.observe.sentry.outbox import Outbox, parcel
from tests.observe.sentry.sink import BABBLES, DRIPS, HANGS, HANGS_UP, TAKES, MakeSink, Sink
from tests.servers import BUSY, eventually, free_port

MakeOutbox = Callable[..., Outbox]


@pytest.fixture
def outbox(monkeypatch: pytest.MonkeyPatch) -> Outbox:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.05)
    return Outbox()


def put(outbox: Outbox, sink: Sink, number: int = 0) -> None:
    url = sink.dsn.replace("thekey@", "").replace("/7", "/api/7/store/")
    outbox.put(parcel(url, {}, b'{"number": %d}' % number))


def numbers(sink: Sink) -> list[int]:
    return [event["number"] for event in sink.events]


def warned(caplog: pytest.LogCaptureFixture, words: str) -> None:
    eventually(
        lambda: any(words in record.getMessage() and record.levelno == logging.WARNING for record in caplog.records)
    )


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (HANGS, "it does not answer in time"), (DRIPS, "it does not answer in time"), (HANGS_UP, "it hung up"),
        (BABBLES, "its answer is not HTTP"), (503, "it answers 503"), (429, "it answers 429"),
    ],
)  # fmt: skip
def test_a_server_that_is_away_or_busy_gets_everything_when_it_is_well_again(
    outbox: Outbox, sink: Sink, caplog: pytest.LogCaptureFixture, behaviour: str | int, words: str
) -> None:
    sink.behaviour, sink.headers = behaviour, {"Retry-After": "0"}
    for number in range(3):
        put(outbox, sink, number)
    warned(caplog, words)
    sink.behaviour = TAKES
    sink.expect(3)
    assert sorted(numbers(sink)) == [0, 1, 2]  # whichever was sent first


def test_a_server_that_refuses_connections_is_tried_again(
    outbox: Outbox, make_sink: MakeSink, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/7/store/"
    outbox.put(parcel(url, {}, b"{}"))
    warned(caplog, "Connection refused")
    make_sink(port=port).expect(1)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 302])
def test_what_the_server_does_not_want_is_dropped_and_what_comes_next_is_sent(
    outbox: Outbox, sink: Sink, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    sink.behaviour, sink.headers = status, {"X-Sentry-Error": "bad sentry", "Location": "/elsewhere"}
    put(outbox, sink, 1)
    warned(caplog, f"it answers {status}, bad sentry")
    sink.behaviour = TAKES
    put(outbox, sink, 2)
    sink.expect(1)
    assert numbers(sink) == [2]


def test_an_event_at_which_the_server_fails_does_not_hold_up_the_others(outbox: Outbox, sink: Sink) -> None:
    sink.behaviour = 500
    put(outbox, sink, 1)
    eventually(lambda: len(sink.requests) == 3)
    sink.behaviour = TAKES
    put(outbox, sink, 2)
    sink.expect(1)
    assert numbers(sink) == [2]


def test_one_that_is_never_taken_lets_the_others_pass_and_is_dropped_in_the_end(outbox: Outbox, sink: Sink) -> None:
    sink.spoilt = b'"number": 1'
    for number in (1, 2, 3):
        put(outbox, sink, number)
    sink.expect(2)
    assert numbers(sink) == [2, 3]
    eventually(lambda: not outbox._waiting)
    assert len(sink.requests) == 2 + 2 * module.TRIES
    put(outbox, sink, 4)
    sink.expect(3)
    assert numbers(sink) == [2, 3, 4]


def test_a_server_that_refuses_some_was_never_away(
    outbox: Outbox, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sink.spoilt, sink.spoilt_status = b'"number": 1', 413
    for number in (1, 2, 1, 3):
        put(outbox, sink, number)
    sink.expect(2)
    assert outbox.flush(5)
    assert outbox._dropped == 2
    assert "takes errors again" not in caplog.text


def test_the_end_of_an_outage_is_told_once_a_minute(
    outbox: Outbox, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sink.behaviour = 503
    put(outbox, sink)
    eventually(lambda: sink.requests)
    sink.behaviour = TAKES
    sink.expect(1)
    [told] = eventually(lambda: [record for record in caplog.records if "takes errors again" in record.getMessage()])
    assert told.once == "sentry-again"


def test_nothing_is_dropped_while_the_server_takes_nothing_at_all(
    outbox: Outbox, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.05)
    sink.behaviour = 503
    for number in range(3):
        put(outbox, sink, number)
    eventually(lambda: len(sink.requests) >= 8 * module.TRIES)
    assert len(outbox._waiting) == 3
    sink.behaviour = TAKES
    assert sorted(event["number"] for event in sink.expect(3)) == [0, 1, 2]


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_asks_for_peace_gets_it(outbox: Outbox, sink: Sink, status: int) -> None:
    sink.behaviour, sink.headers = status, {"Retry-After": "1"}
    for number in range(10):
        put(outbox, sink, number)
    eventually(lambda: sink.requests)
    sink.behaviour = TAKES
    sink.expect(10)
    assert sink.times[1] - sink.times[0] >= 1


@pytest.mark.parametrize("wish", ["0", "-5", "nan", "Mon, 02 Jan 2006 15:04:05 GMT"])
def test_a_wish_never_shortens_the_pause(outbox: Outbox, sink: Sink, wish: str) -> None:
    sink.behaviour, sink.headers = 503, {"Retry-After": wish}
    put(outbox, sink)
    eventually(lambda: len(sink.times) >= 4)
    assert sink.times[3] - sink.times[0] >= 0.05 + 0.1 + 0.2


def test_a_date_is_a_wish_too() -> None:
    from email.message import Message
    from email.utils import formatdate

    headers = Message()
    headers["Retry-After"] = formatdate(time.time() + 100, usegmt=True)
    wish = module._wish(headers)
    assert wish is not None and 98 < wish <= 100
    for odd in ("soon", "Mon, 01 Jan 2024 00:00:00 +9999999999999999"):
        headers.replace_header("Retry-After", odd)
        assert module._wish(headers) is None


@pytest.mark.parametrize("name", ["Retry-After", "X-Sentry-Error"])
def test_headers_that_are_no_ascii_cost_no_event(
    outbox: Outbox, sink: Sink, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    sink.behaviour, sink.headers = 503, {name: "später"}
    put(outbox, sink, 1)
    warned(caplog, "it answers 503")
    sink.behaviour = TAKES
    sink.expect(1)


def test_an_event_at_which_the_outbox_itself_fails_is_counted(
    outbox: Outbox, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_send", lambda first: 1 // 0)
    put(outbox, sink)
    eventually(lambda: not outbox._waiting)
    assert outbox._dropped == 1


def test_tries_become_ever_rarer(outbox: Outbox, sink: Sink) -> None:
    sink.behaviour = HANGS_UP
    put(outbox, sink)
    eventually(lambda: len(sink.times) >= 5)
    pauses = [after - before for before, after in zip(sink.times, sink.times[1:], strict=False)]
    assert pauses[3] > 0.05 * 8 > pauses[0] or pauses[3] > pauses[0]
    sink.behaviour = TAKES
    sink.expect(1)


def test_the_box_is_bounded_in_number_and_in_bytes(sink: Sink) -> None:
    sink.behaviour = HANGS
    few, small = Outbox(most_events=3), Outbox(most_bytes=30)
    for box in (few, small):
        put(box, sink)
    assert not few.full and small.full
    put(few, sink)
    put(few, sink)
    assert few.full


def test_waiting_for_the_end_is_bounded(outbox: Outbox, sink: Sink) -> None:
    put(outbox, sink)
    assert outbox.flush(5)
    assert len(sink.events) == 1
    sink.behaviour = HANGS
    put(outbox, sink)
    began = time.monotonic()
    assert not outbox.flush(0.5)
    assert time.monotonic() - began < 1 * BUSY


def test_nobody_waits_for_a_server_that_is_known_to_be_away(outbox: Outbox, sink: Sink) -> None:
    sink.behaviour = 503
    put(outbox, sink)
    eventually(lambda: sink.requests)
    began = time.monotonic()
    assert not outbox.flush(5)
    assert time.monotonic() - began < 1 * BUSY


def test_a_refusal_shows_that_the_server_is_there_and_the_rest_is_waited_for(outbox: Outbox, sink: Sink) -> None:
    sink.behaviour = 503
    put(outbox, sink)
    eventually(lambda: sink.requests)
    sink.behaviour, sink.delay_seconds = 400, 0.2
    for number in range(5):
        put(outbox, sink, number)
    eventually(lambda: len(sink.requests) >= 3)
    assert outbox.flush(10)


def test_after_an_outage_the_server_is_waited_for_again(outbox: Outbox, sink: Sink) -> None:
    sink.behaviour = 503
    put(outbox, sink, 1)
    eventually(lambda: sink.requests)
    sink.behaviour, sink.delay_seconds = TAKES, 0.2
    eventually(lambda: not outbox._waiting)
    put(outbox, sink, 2)
    assert outbox.flush(10)
    assert numbers(sink) == [1, 2]


# --- TLS ---------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """The only authority that is trusted here."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    return authority


def served_by(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def test_a_good_certificate_is_accepted(outbox: Outbox, make_sink: MakeSink, authority: trustme.CA) -> None:
    sink = make_sink(tls=served_by(authority, "127.0.0.1"))
    put(outbox, sink, 5)
    sink.expect(1)
    assert numbers(sink) == [5]


def test_a_certificate_for_another_host_is_refused(
    outbox: Outbox, make_sink: MakeSink, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    sink = make_sink(tls=served_by(authority, "other.example"))
    put(outbox, sink)
    warned(caplog, "its certificate is not to be trusted")
    assert not sink.requests


def test_a_certificate_by_somebody_else_is_refused(
    outbox: Outbox, make_sink: MakeSink, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    sink = make_sink(tls=served_by(trustme.CA(), "127.0.0.1"))
    put(outbox, sink)
    warned(caplog, "its certificate is not to be trusted")
    assert not sink.requests


def test_the_server_is_told_which_host_is_meant(outbox: Outbox, make_sink: MakeSink, authority: trustme.CA) -> None:
    context = served_by(authority, "localhost")
    asked: list[str | None] = []
    context.sni_callback = lambda connection, name, _: asked.append(name)
    sink = make_sink(tls=context)
    outbox.put(parcel(f"https://localhost:{sink.port}/api/7/store/", {}, b"{}"))
    sink.expect(1)
    assert asked == ["localhost"]


# --- a process's end ---------------------------------------------------------------------------------

PROGRAM = """
import sys, time
from service.observe.sentry import reporter
errors = reporter.connect(sys.argv[1], client=sys.argv[2], release="r", environment="e", process="p")
try:
    1 / 0
except ZeroDivisionError as error:
    errors.capture(error)
{end}
"""


def ended(sink: Sink, client: str, end: str = "") -> tuple[float, subprocess.CompletedProcess[str]]:
    """How long it took to end after the capture, and what it said."""
    program = PROGRAM.format(end="began = time.monotonic()\nimport atexit\n" + end)
    began = time.monotonic()
    done = subprocess.run((sys.executable, "-c", program, sink.dsn, client), capture_output=True, text=True, timeout=60)
    return time.monotonic() - began, done


def test_what_waits_is_sent_at_the_end_and_nothing_is_printed(sink: Sink, client: str) -> None:
    _, done = ended(sink, client)
    assert len(sink.events) == 1
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_process_that_dies_of_an_error_reports_it(sink: Sink, client: str) -> None:
    _, done = ended(sink, client, "raise LookupError('the end')")
    assert [event["exception"]["values"][0]["type"] for event in sink.events] == ["ZeroDivisionError", "LookupError"]
    assert "LookupError: the end" in done.stderr


def test_a_server_that_hangs_holds_up_the_end_for_three_seconds_at_most(sink: Sink, client: str) -> None:
    without, _ = ended(sink, client)
    sink.behaviour = HANGS
    with_it, done = ended(sink, client)
    assert with_it - without < 3 * BUSY
    assert done.stdout == ""


def test_a_forked_child_sends_what_is_its_own(sink: Sink, client: str) -> None:
    fork = """
import os
if os.fork() == 0:
    try:
        [][0]
    except IndexError as error:
        errors.capture(error)
    sys.exit()
os.wait()
"""
    ended(sink, client, fork)
    kinds = [event["exception"]["values"][0]["type"] for event in sink.events]
    assert sorted(kinds) == ["IndexError", "ZeroDivisionError"]


def test_nothing_is_started_before_the_first_error(sink: Sink, client: str) -> None:
    program = """
import sys, threading
from service.observe.sentry import reporter
reporter.connect(sys.argv[1], client=sys.argv[2], release="r", environment="e", process="p")
print(threading.active_count())
"""
    done = subprocess.run((sys.executable, "-c", program, sink.dsn, client), capture_output=True, text=True, timeout=60)
    assert done.stdout == "1\n"
    assert not sink.times
