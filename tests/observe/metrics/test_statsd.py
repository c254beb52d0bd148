"""Whatever the network does, nobody waits and nothing raises."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from service.errors import Cancelled
from service.observe.statsd import LARGEST_BYTES, StatsD
from tests.observe.metrics.sink import Sink
from tests.servers import BUSY, eventually, free_port


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record)


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    logger, handler = logging.getLogger("sandbox.statsd"), Records()
    logger.addHandler(handler)
    yield handler.seen
    logger.removeHandler(handler)


@pytest.fixture
def make() -> Iterator[Callable[..., StatsD]]:
    made: list[StatsD] = []

    def make(*words: Any, **options: Any) -> StatsD:
        made.append(StatsD(*words, **options))
        return made[-1]

    yield make
    for statsd in made:
        eventually(lambda statsd=statsd: not statsd._looking, 30)  # type: ignore[misc]
        statsd.close()


def sent(statsd: StatsD, sink: Sink, line: str) -> bool:
    """Sends again until it arrives: what is sent before the name is known is lost."""
    statsd.incr(line)
    return f"{line}:1|c".encode() in sink.read()


def found(port: int) -> list[Any]:
    return socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_DGRAM)


def test_what_is_told_in_a_moment_goes_together_in_datagrams_that_fit(make: Callable[..., StatsD], sink: Sink) -> None:
    moments: list[Callable[[], None]] = []
    statsd = make("127.0.0.1", sink.port, later=moments.append)
    for number in range(100):
        statsd.tell(f"first{number}:1|c\nsecond{number}:1|c")
    assert sink.read() == []
    moments.pop()()
    assert moments == []
    datagrams = sink.read()
    sizes = [len(datagram) for datagram in datagrams]
    assert len(sizes) == 2 and max(sizes) <= LARGEST_BYTES, f"{sizes} bytes; these lines fill two of {LARGEST_BYTES}"
    assert sink.counts() == {f"{which}{number}": 1 for number in range(100) for which in ("first", "second")}
    sink.datagrams.clear()
    statsd.tell("next:1|c")
    moments.pop()()
    assert sink.read() == [b"next:1|c"]


def test_where_there_is_no_later_it_is_told_at_once(make: Callable[..., StatsD], sink: Sink) -> None:
    def later(_: Callable[[], None]) -> None:
        raise MemoryError

    statsd = make("127.0.0.1", sink.port, later=later)
    for line in (b"first:1|c", b"second:1|c"):
        statsd.tell(line.decode())
        assert sink.read() == [line]
        sink.datagrams.clear()


def test_lines_of_one_call_arrive_in_one_datagram(make: Callable[..., StatsD], sink: Sink) -> None:
    statsd = make("localhost" if socket.gethostbyname("localhost") == "127.0.0.1" else "127.0.0.1", sink.port)
    eventually(lambda: sent(statsd, sink, "ready"))
    sink.datagrams.clear()
    with statsd.pipeline() as told:
        told.incr("a")
        told.timings("b", ("2", "3"))
    eventually(lambda: sink.read() == [b"a:1|c\nb:2|ms:3|ms"])


def test_an_address_needs_no_look_up_and_the_first_datagram_arrives(make: Callable[..., StatsD], sink: Sink) -> None:
    make("127.0.0.1", sink.port).incr("first")
    assert sink.read() == [b"first:1|c"]


class Datagrams(StatsD):
    def __init__(self) -> None:
        super().__init__("127.0.0.1", 9)
        self.sent: list[str] = []

    def _send(self, text: str) -> None:
        self.sent.append(text)


@pytest.fixture
def datagrams() -> Iterator[Datagrams]:
    datagrams = Datagrams()
    yield datagrams
    eventually(lambda: not datagrams._looking)
    datagrams.close()


def test_no_datagram_is_larger_than_a_packet_and_nothing_is_left_out(datagrams: Datagrams) -> None:
    names = ["x" * (number % 200) + str(number) for number in range(500)]
    with datagrams.pipeline() as told:
        for name in names:
            told.incr(name)
    sizes = [len(datagram) for datagram in datagrams.sent]
    assert max(sizes) <= LARGEST_BYTES, f"{sizes} bytes: one is too large for a packet"
    whole = "\n".join(datagrams.sent)
    assert whole.split("\n") == [f"{name}:1|c" for name in names]
    assert len(sizes) < len(whole) / LARGEST_BYTES * 1.3, f"{sizes} bytes: they are not filled"


def test_a_line_exactly_as_large_as_a_packet_goes_alone(datagrams: Datagrams) -> None:
    with datagrams.pipeline() as told:
        for name in ("a", "b" * (LARGEST_BYTES - 4), "c"):
            told.incr(name)
    assert [len(datagram) for datagram in datagrams.sent] == [5, LARGEST_BYTES, 5]


def test_a_name_that_does_not_resolve_costs_nothing_and_is_tried_again(
    make: Callable[..., StatsD], sink: Sink, clock: Clock, records: list[logging.LogRecord]
) -> None:
    known = threading.Event()

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        if not known.is_set():
            raise socket.gaierror(-2, "Name or service not known")
        return found(port)

    statsd = make("statsd.invalid", sink.port, look_up=look_up, clock=clock)
    eventually(lambda: records)
    for _ in range(1000):
        statsd.incr("lost")
    assert len(records) == 1 and "Name or service not known" in records[0].getMessage()

    def arrives() -> bool:
        clock.now += 6  # the thread needs some time
        return sent(statsd, sink, "healed")

    known.set()
    eventually(arrives)


def over_ipv6(port: int) -> tuple[Any, ...]:
    return (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", port, 0, 0))


def test_of_several_addresses_the_ipv4_one_is_taken(make: Callable[..., StatsD], sink: Sink) -> None:
    statsd = make("x", 1, look_up=lambda *_, **__: [over_ipv6(sink.port), *found(sink.port)])
    eventually(lambda: sent(statsd, sink, "here"))


def test_where_there_is_nothing_else_ipv6_is_taken(make: Callable[..., StatsD]) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as reader:
        reader.bind(("::1", 0))
        reader.settimeout(10)
        statsd = make("x", 1, look_up=lambda *_, **__: [over_ipv6(reader.getsockname()[1])])
        eventually(lambda: statsd._socket)
        statsd.incr("here")
        assert reader.recv(100) == b"here:1|c"


def test_a_look_up_that_hangs_holds_up_nobody(make: Callable[..., StatsD], clock: Clock) -> None:
    going_on = threading.Event()
    asked: list[str] = []

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        going_on.wait(30)
        return found(port)

    try:
        begun = time.monotonic()
        statsd = make("slow.invalid", 1, look_up=look_up, clock=clock)
        for _ in range(1000):
            clock.now += 100
            statsd.incr("lost")
        assert time.monotonic() - begun < 2 * BUSY
        assert asked == ["slow.invalid"]  # one thread waits, not a thousand
    finally:
        going_on.set()


def test_a_handler_that_is_interrupted_as_a_look_up_starts_does_not_end_them_for_good(
    make: Callable[..., StatsD], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    statsd = make("x", 1, look_up=lambda host, port, **_: asked.append(host) or found(port), clock=clock)
    eventually(lambda: not statsd._looking)

    def interrupted(thread: threading.Thread) -> None:
        raise Cancelled

    clock.now += 61
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(Cancelled):
            statsd.incr("here")
    clock.now += 61
    statsd.incr("here")
    eventually(lambda: len(asked) == 2)


def test_a_host_that_moves_is_followed(make: Callable[..., StatsD], sink: Sink, clock: Clock) -> None:
    other = Sink()
    ports = iter([sink.port])
    statsd = make("x", 1, look_up=lambda *_, **__: found(next(ports, other.port)), clock=clock)
    eventually(lambda: sent(statsd, sink, "here"))

    def arrives() -> bool:
        clock.now += 61
        return sent(statsd, other, "there")

    eventually(arrives)
    other.close()


def test_where_nobody_listens_the_log_says_so_once_and_it_heals_without_losing_any(
    make: Callable[..., StatsD], clock: Clock, records: list[logging.LogRecord]
) -> None:
    port = free_port()
    statsd = make("127.0.0.1", port, clock=clock)

    def complained() -> bool:
        statsd.incr("lost")
        return bool(records)

    eventually(complained)
    for _ in range(1000):
        statsd.incr("lost")
    assert len(records) == 1 and "refused" in records[0].getMessage()
    clock.now += 59
    statsd.incr("lost")
    assert len(records) == 1
    clock.now += 2
    eventually(lambda: statsd.incr("lost") or len(records) == 2)

    for lost in (1, 2):
        for _ in range(lost):
            statsd.incr("lost")
        sink = Sink(port)
        for number in range(100):
            statsd.incr(f"n{number}")
        assert sink.read() == [b"n%d:1|c" % number for number in range(100)]
        sink.close()


def test_a_reader_that_never_reads_holds_up_nobody(make: Callable[..., StatsD], sink: Sink) -> None:
    statsd = make("127.0.0.1", sink.port)
    eventually(lambda: sent(statsd, sink, "ready"))
    begun = time.monotonic()
    for _ in range(20_000):
        statsd.incr("x" * 1000)  # 20 MB; the sink's buffer takes 4
    assert time.monotonic() - begun < 10 * BUSY
    # Loopback drops at the reader; a network card that is full would hold up a socket that blocks.
    assert statsd._socket is not None and not statsd._socket.getblocking()


@pytest.mark.parametrize("host", ["x" * 200, "a..b", "xn--\u00e9"])
def test_what_is_no_name_at_all_is_nobodys_problem(
    make: Callable[..., StatsD], host: str, records: list[logging.LogRecord]
) -> None:
    statsd = make(host, 1)
    eventually(lambda: records, 30)
    statsd.incr("\udcff")
