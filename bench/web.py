"""`POST /tasks` and `POST /tasks/batch`, by wrk over keepalive connections.

The peers' views run in the same gunicorn: same configuration, worker class, logger and Python packages.
The service's runners are frozen, and Celery has no worker: otherwise two cores would execute the
tasks beside. A further row lets the runners work.
"""

import http.client
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil
import redis

from bench import servers
from bench.peer import PYTHON
from bench.processes import ROOT, environment, eventually, resident_mb, started
from bench.rounds import Plan, interleaved
from bench.servers import BATCH
from bench.table import MEGABYTES, PER_SECOND, Row

WRK: Final = "wrk"
SCRIPT: Final = Path(__file__).absolute().parent / "post.lua"
TASK: Final = {"type": "echo", "args": {"message": "hello"}}
CONNECTIONS: Final = 16
SECONDS: Final = 5.0
BARE: Final = "bare Flask route"
DELAY: Final = "Flask + celery.delay()"
DELAYING: Final = "bench.peers.flask_celery:app"
WORKING: Final = "runners at work"


class Load(NamedTuple):
    rate: float
    p99_ms: float
    requests: int
    resident_mb: float


def lacks() -> str:
    """What is missing on this machine, and how to get it."""
    return "" if shutil.which(WRK) else f"{WRK} is not installed: apt-get install {WRK}"


def measure_post(plan: Plan) -> Iterator[Row]:
    candidates: dict[str, Callable[[], Load]] = {
        "sandbox": partial(service, plan, TASK, CONNECTIONS),
        BARE: partial(_flask, plan, "bench.peers.flask_bare:app"),
        DELAY: partial(_flask, plan, DELAYING),
        WORKING: partial(service, plan, TASK, CONNECTIONS, runners_work=True),
    }
    samples = interleaved(plan, candidates, fewer=(WORKING,))
    rates = {name: [load.rate for load in loads] for name, loads in samples.items()}
    yield Row("POST /tasks", PER_SECOND, rates["sandbox"], BARE, rates[BARE], bar=0.75)
    yield Row("POST /tasks", PER_SECOND, rates["sandbox"], DELAY, rates[DELAY], bar=2.0)
    yield Row("POST /tasks while the runners execute them", PER_SECOND, rates[WORKING])
    weights = {name: [load.resident_mb for load in loads] for name, loads in samples.items()}
    what = "resident memory of a web worker"
    yield Row(what, MEGABYTES, weights["sandbox"], BARE, weights[BARE], bar=50, aim=40, absolute=True)
    yield Row(what, MEGABYTES, weights["sandbox"], DELAY, weights[DELAY])


def measure_batch(plan: Plan) -> Iterator[Row]:
    samples = interleaved(plan, {"sandbox": partial(service, plan, [TASK] * BATCH, 4)})
    rates = [load.rate * BATCH for load in samples["sandbox"]]
    yield Row(f"tasks by POST /tasks/batch, {BATCH:,} each", PER_SECOND, rates, bar=15_000, aim=30_000)


def service(plan: Plan, body: Any, connections: int, *, runners_work: bool = False, **settings: str) -> Load:
    with servers.service(**settings) as service:
        if not runners_work:
            service.freeze()
        path = "/batch" if isinstance(body, list) else ""
        load = _load(plan, service.url + path, body, connections, service.web_workers())
        each = len(body) if isinstance(body, list) else 1
        _check_stored(load, sum(map(service.count, ("queued", "running", "succeeded"))) // each)
        return load


def _flask(plan: Plan, app: str) -> Load:
    with flask_server(app) as (url, workers, broker):
        load = _load(plan, url, TASK, CONNECTIONS, workers())
        if app is DELAYING:
            _check_stored(load, broker.llen("celery"))
        return load


def _check_stored(load: Load, stored: int) -> None:
    if stored < load.requests:
        raise RuntimeError(f"{load.requests} requests were answered, and {stored} stored")


@contextmanager
def flask_server(
    app: str, python: str = PYTHON
) -> Iterator[tuple[str, Callable[[], Sequence[psutil.Process]], redis.Redis]]:
    port = servers.free_port()
    with servers.folder() as home, servers.fresh_redis(home) as broker:
        # Named as ours, too: else the workers would ask the application whether its own is there yet.
        own = environment(SANDBOX_HOME=str(home), REDIS_URL=f"unix://{broker}", BENCH_REDIS=str(broker))
        words = [python, "-m", "gunicorn", "-c", str(ROOT / "conf" / "gunicorn.py"), "--bind", f"127.0.0.1:{port}", app]
        with started(words, own, home / "output.log") as program:
            url = f"http://127.0.0.1:{port}/tasks"

            def is_ready() -> bool:
                program.check()
                return len(program.family()) > 2 and _answers(port)

            eventually(is_ready)
            yield url, lambda: program.family()[1:], redis.Redis(unix_socket_path=str(broker))


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return bool(connection.getresponse().status)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _load(plan: Plan, url: str, body: Any, connections: int, workers: Sequence[psutil.Process]) -> Load:
    with servers.folder() as folder:
        file = folder / "body.json"
        file.write_text(json.dumps(body))
        _wrk(url, file, connections, seconds=1)
        result = _wrk(url, file, connections, seconds=plan.seconds(SECONDS))
    return Load(result["requests"] / result["seconds"], result["p99_ms"], result["requests"], resident_mb(workers))


def _wrk(url: str, body: Path, connections: int, *, seconds: float) -> Any:
    words = [WRK, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(SCRIPT), url, "--", str(body)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, timeout=seconds + 30)
    result = json.loads(done.stdout.splitlines()[-1])
    if result["failed"]:
        raise RuntimeError(f"{result['failed']} of {result['requests']} requests to {url} failed")
    return result
