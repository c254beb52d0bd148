"""Reloads under load, against what people do today: `make bench-reload`. README.md says how."""

import argparse
import asyncio
import compileall
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import cycle, islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from circus.client import CircusClient

HERE: Final = Path(__file__).absolute().parent
sys.path[0] = str(HERE.parent)  # bench is a package; run as a script, Python would look inside it

from bench import machine  # noqa: E402
from bench.machine import Section  # noqa: E402
from bench.openloop import Asked, load  # noqa: E402
from bench.processes import ROOT, Program, complain, environment, started  # noqa: E402
from bench.servers import folder, free_port, fresh_redis  # noqa: E402
from bench.table import table  # noqa: E402

RESULTS: Final = Section(HERE / "README.md", "reloads: written by reload.py --write")

REQUESTS: Final = 100_000
RELOADS: Final = 21
RIVAL_SECONDS: Final = 12.0
PAUSE_SECONDS: Final = 3.0
PATIENCE_SECONDS: Final = 10  # of the gate, a third of the default: a hanging release is to be refused soon
SETTLE_SECONDS: Final = 30
WEB_WORKERS: Final = 2
CAPACITY_CLIENTS: Final = 16
CAPACITY_SECONDS: Final = 4.0

IMPORTS: Final = (  # what a reload imports, too: circusctl, gunicorn, and each of two workers
    "circus.circusctl",
    "gunicorn.app.wsgiapp, service.web.server.worker",
    "gunicorn.app.wsgiapp, service.web.server.worker, service.cli.wsgi",
    "gunicorn.app.wsgiapp, service.web.server.worker, service.cli.wsgi",
)

GOOD: Final = "from service.cli.wsgi import app\n"
BROKEN: Final = {
    "does not import": "import a_module_that_does_not_exist\n",
    "is not ready": "from service.cli.wsgi import app\n\n\ndef refuse(*_):\n    raise RuntimeError('broken')\n\n\n"
    "app.wsgi_app = refuse\napp.view_functions = {name: refuse for name in app.view_functions}\n",
    "hangs": "import time\n\ntime.sleep(600)\n",
    "dies": "import os\n\nos._exit(7)\n",
}


class Span(NamedTuple):
    """A reload: until its answer, and until nothing is left of the old or of the refused release."""

    begun: float
    answered: float
    ended: float
    good: bool
    typed: bool = True


class Outcome(NamedTuple):
    asked: Sequence[Asked]
    spans: Sequence[Span]
    starts: Sequence[Span] = ()  # of programs that only import

    @property
    def failed(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.failure]

    @property
    def good(self) -> list[Span]:
        return [span for span in self.spans if span.good]

    def p99(self, spans: Sequence[Span]) -> float:
        """Of the requests that were due in one of these."""
        return percentile([asked.seconds for asked in self.asked if _is_during(asked.due, spans) and not asked.failure])

    @property
    def steady_p99(self) -> float:
        both = (*self.spans, *self.starts)
        return percentile(
            [asked.seconds for asked in self.asked if not _is_during(asked.due, both) and not asked.failure]
        )

    @property
    def outage(self) -> float:
        """The longest time in which no request was answered well."""
        answered = sorted(asked.due + asked.seconds for asked in self.asked if not asked.failure)
        moments = [self.asked[0].due, *answered, max(asked.due for asked in self.asked)]
        return max(later - earlier for earlier, later in pairwise(moments))


def _is_during(moment: float, spans: Sequence[Span]) -> bool:
    return any(span.begun <= moment <= span.ended for span in spans)


def percentile(seconds: Sequence[float], part: float = 0.99) -> float:
    return sorted(seconds)[math.ceil(part * len(seconds)) - 1] if seconds else math.nan


# --- ours ------------------------------------------------------------------------------------------


class Sandbox:
    """The service, with `current` as the link that names its release."""

    def __init__(self, home: Path) -> None:
        self.port = free_port()
        self._home = home
        self._current = home / "current"
        self.switch(self.install("0", GOOD))
        self.environment = environment(
            SANDBOX_HOME=str(home / "var"),
            SANDBOX_PORT=str(self.port),
            SANDBOX_RELEASE=str(self._current),
            SANDBOX_RELOAD=str(PATIENCE_SECONDS),
            CIRCUSCTL_ENDPOINT=f"ipc://{home / 'var' / 'run' / 'control.sock'}",
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        words = [sys.executable, "-m", "service.cli", "run"]
        with started(words, self.environment, self._home / "output.log") as self._program:
            yield

    def install(self, name: str, text: str) -> Path:
        release = self._home / "releases" / name
        for part in ("service", "conf"):
            shutil.copytree(ROOT / part, release / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "circus.ini", release)
        if text != GOOD:
            wsgi = release / "service" / "cli" / "wsgi.py"
            wsgi.write_text(text.replace(GOOD, wsgi.read_text()))
        compileall.compile_dir(release / "service", quiet=1)  # as pip does
        return release

    def switch(self, release: Path) -> None:
        switched = self._home / "switched"
        switched.symlink_to(release)
        switched.replace(self._current)

    def web(self) -> set[int]:
        """gunicorn and its workers. To look at all processes would take the processor from them."""
        arbiters = [pid for pid in children(self._program.pid) if b"gunicorn" in command_line(pid)]
        return {pid for arbiter in arbiters for pid in (arbiter, *children(arbiter))}

    async def reload(self, typed: bool) -> tuple[bool, str]:
        if typed:
            return await answer(self.environment, "-m", "circus.circusctl", "reload", "sandbox")
        said = await asyncio.to_thread(self._ask)
        return said["status"] == "ok", str(said.get("reason"))

    def _ask(self) -> dict[str, Any]:
        """What circusctl asks, by a program that is running already."""
        client = CircusClient(endpoint=self.environment["CIRCUSCTL_ENDPOINT"], timeout=SETTLE_SECONDS)
        try:
            return dict(client.send_message("reload", name="sandbox", waiting=True))
        finally:
            client.stop()


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


async def answer(environment: dict[str, str], *words: str) -> tuple[bool, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *words,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # as from another terminal: the kernel weighs it against the others, not this process
    )
    said, _ = await process.communicate()
    return process.returncode == 0, said.decode(errors="replace").strip()


async def measure_ours(requests: int, reloads: int) -> tuple[float, Outcome]:
    with folder() as home:
        sandbox = Sandbox(home)
        with sandbox.running(), load(sandbox.port) as clients:
            await clients.ready()
            rate = await clients.capacity(CAPACITY_CLIENTS, CAPACITY_SECONDS) / 3
            names = list(islice(mixed(), reloads))
            releases = [sandbox.install(str(n), BROKEN.get(name, GOOD)) for n, name in enumerate(names, start=1)]
            pause = max(PAUSE_SECONDS, requests / rate / reloads - PAUSE_SECONDS)
            spans: list[Span] = []
            starts: list[Span] = []
            enough = time.monotonic() + requests / rate + 1
            clients.begin(rate)
            for name, release, typed in zip(names, releases, cycle((True, False)), strict=False):
                await asyncio.sleep(pause)
                sandbox.switch(release)
                spans.append(await timed(name, sandbox, typed))
                if name == "good":
                    await asyncio.sleep(PAUSE_SECONDS)
                    starts.append(await start_programs(sandbox.environment))
            await asyncio.sleep(max(pause, enough - time.monotonic()))
            return rate, Outcome(await clients.end(), spans, starts)


async def start_programs(environment: dict[str, str]) -> Span:
    begun = time.monotonic()
    for modules in IMPORTS:
        await answer(environment, "-c", f"import {modules}")
    ended = time.monotonic()
    return Span(begun, ended, ended, True)


def mixed() -> Iterator[str]:
    """Two good releases, then a broken one, each time in another way."""
    broken = cycle(BROKEN)
    while True:
        yield from ("good", "good", next(broken))


async def timed(name: str, sandbox: Sandbox, typed: bool) -> Span:
    before = sandbox.web()
    begun = time.monotonic()
    accepted, said = await sandbox.reload(typed)
    answered = time.monotonic()
    complain(f"  {name}: {'accepted' if accepted else 'refused'} after {answered - begun:.1f} s")
    if accepted is not (name == "good"):
        raise RuntimeError(f"a release that is {name} was {'accepted' if accepted else 'refused'}:\n{said}")
    async with asyncio.timeout(SETTLE_SECONDS):
        while len(left := sandbox.web()) != len(before) or (accepted and left & before):
            await asyncio.sleep(0.02)
    return Span(begun, answered, time.monotonic(), accepted, typed)


# --- what people do today ----------------------------------------------------------------------------


class Rival:
    """gunicorn as it comes, with the same application; its code is changed in place."""

    name: str
    steps = "kill -HUP"

    def __init__(self, home: Path, redis: Path) -> None:
        self.port = free_port()
        self.home = home
        self.live = home / "live"
        shutil.rmtree(self.live, ignore_errors=True)
        self.live.mkdir()
        self.environment = environment(
            SANDBOX_HOME=str(home / "var"), REDIS_URL=f"unix://{redis}", PYTHONPATH=f"{self.live}:{ROOT}"
        )
        self.install(GOOD)

    def install(self, text: str) -> None:
        (self.live / "release.py").write_text(text)

    def gunicorn(self, bind: str) -> list[str]:
        options = ("-k", "gevent", "-w", "2", "--keep-alive", "75", "--no-control-socket")
        return [sys.executable, "-m", "gunicorn", *options, "--bind", bind, "release:app"]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        with started(self.gunicorn(f"127.0.0.1:{self.port}"), self.environment, self.home / "rival.log") as program:
            self.program = program
            yield

    async def reload(self) -> None:
        raise NotImplementedError


class Hup(Rival):
    name = "gunicorn, HUP"

    async def reload(self) -> None:
        if family := self.program.family():
            family[0].send_signal(signal.SIGHUP)


class StopAndStart(Rival):
    name = "gunicorn, stop and start"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.program = self._start()
        try:
            yield
        finally:
            await asyncio.to_thread(self.program.stop)

    def _start(self) -> Program:
        return Program(self.gunicorn(f"127.0.0.1:{self.port}"), self.environment, self.home / "rival.log")

    async def reload(self) -> None:
        await asyncio.to_thread(self.program.stop)
        self.program = self._start()


class StockCircus(Rival):
    name = "circus, reload"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        control = f"ipc://{self.home / 'control'}"
        words = " ".join(self.gunicorn("fd://$(circus.sockets.web)"))
        file = self.home / "stock.ini"
        file.write_text(
            f"[circus]\nendpoint = {control}\npubsub_endpoint = ipc://{self.home / 'events'}\n"
            f"[socket:web]\nhost = 127.0.0.1\nport = {self.port}\n"
            f"[watcher:web]\ncmd = {words}\nuse_sockets = True\ncopy_env = True\n"
        )
        self.environment["CIRCUSCTL_ENDPOINT"] = control
        words_of_circusd = [sys.executable, "-m", "circus.circusd", str(file)]
        with started(words_of_circusd, self.environment, self.home / "rival.log"):
            yield

    async def reload(self) -> None:
        await answer(self.environment, "-m", "circus.circusctl", "reload", "web")


async def measure_rival(kind: type[Rival], rate: float, text: str, seconds: float) -> Outcome:
    with folder() as home, fresh_redis(home) as redis:
        rival = kind(home, redis)
        async with rival.running():
            with load(rival.port) as clients:
                await clients.ready()
                clients.begin(rate)
                await asyncio.sleep(seconds / 3)
                rival.install(text)
                begun = time.monotonic()
                await rival.reload()
                answered = time.monotonic()
                await asyncio.sleep(max(0.0, begun + seconds * 2 / 3 - time.monotonic()))
                spans = [Span(begun, answered, answered + seconds / 3, text == GOOD)]
                return Outcome(await clients.end(), spans)


# --- the table -----------------------------------------------------------------------------------------

BAR: Final = 3  # times the steady p99
TIMES: Final = "\N{MULTIPLICATION SIGN}"
HEADER: Final = ("how", "release", "requests", "failed", "longest time without an answer")


def rival_row(name: str, release: str, outcome: Outcome) -> tuple[str, ...]:
    return (name, release, f"{len(outcome.asked):,}", f"{len(outcome.failed):,}", f"{outcome.outage:.2f} s")


def _times(seconds: float, steady: float) -> str:
    return f"{seconds * 1e3:.1f} ms ({seconds / steady:.2f} {TIMES})"


def report(rate: float, ours: Outcome, rows: Sequence[tuple[str, ...]]) -> str:
    good = [span.answered - span.begun for span in ours.good]
    broken = [span.answered - span.begun for span in ours.spans if not span.good]
    steady, during, starting = ours.steady_p99, ours.p99(ours.spans), ours.p99(ours.starts)
    typed, asked = ours.p99([s for s in ours.spans if s.typed]), ours.p99([s for s in ours.spans if not s.typed])
    own = ("sandbox, reload", f"{len(good)} good, {len(broken)} broken in four ways")
    lines = [
        f"{rate:,.0f} requests/s, a third of what the service can do beside the clients.",
        "",
        table([HEADER, (*own, *rival_row("", "", ours)[2:]), *rows]),
        f"p99 of the service: {steady * 1e3:.1f} ms steady, {_times(during, steady)} during reloads, "
        f"{_times(ours.p99(ours.good), steady)} during the good ones alone (bar for both {BAR} {TIMES}). "
        f"Where circusctl is started to ask for it, {_times(typed, steady)}; where a program asks that is running "
        f"already, {_times(asked, steady)}.",
        f"While {len(IMPORTS)} programs start one after the other that only import what a reload imports, without one: "
        f"{_times(starting, steady)}.",
        f"A good release served after {median(good):.1f} s ({min(good):.1f} to {max(good):.1f} s); "
        f"a broken one was refused after {median(broken):.1f} s ({min(broken):.1f} to {max(broken):.1f} s; one that "
        f"hangs after the gate's {PATIENCE_SECONDS} s).",
    ]
    return "\n".join(lines) + "\n"


def is_reached(ours: Outcome) -> bool:
    return not ours.failed and max(ours.p99(ours.spans), ours.p99(ours.good)) <= BAR * ours.steady_p99


async def run(options: argparse.Namespace) -> int:
    requests, reloads = (REQUESTS // 10, 6) if options.quick else (REQUESTS, RELOADS)
    complain("sandbox")
    rate, ours = await measure_ours(requests, reloads)
    for asked in ours.failed[:10]:
        complain(f"  failed: {asked.failure} after {asked.seconds:.2f} s")
    rows = []
    for kind in (Hup, StockCircus, StopAndStart):
        for release, text in (("good", GOOD), ("does not import", BROKEN["does not import"])):
            complain(f"{kind.name}, {release}")
            rows.append(rival_row(kind.name, release, await measure_rival(kind, rate, text, RIVAL_SECONDS)))
    text = f"{machine.described()}\n\n{report(rate, ours, rows)}"
    print(text)
    if options.write:
        RESULTS.write(text)
    return 0 if is_reached(ours) else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="six reloads and a tenth of the requests: only rough")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    options = parser.parse_args()
    if options.write and options.quick:
        parser.error("--write takes the whole run: without --quick")
    os.environ.pop("SANDBOX_HOME", None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds: every program is stopped
    try:
        return asyncio.run(run(options))
    except KeyboardInterrupt:
        complain("stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main())
