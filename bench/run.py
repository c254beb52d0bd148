"""Measures the service against its peers: `make bench`. README.md says how."""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).absolute().parent
sys.path[0] = str(HERE.parent)  # bench is a package; run as a script, Python would look inside it

from bench import (  # noqa: E402
    apart,
    churn,
    cost,
    crowd,
    drain,
    history,
    latency,
    limits,
    machine,
    peer,
    servers,
    start,
    unique,
    waiting,
    wakeups,
    web,
)
from bench.machine import Section  # noqa: E402
from bench.processes import complain  # noqa: E402
from bench.rounds import QUICK_ROUNDS, ROUNDS, Plan  # noqa: E402
from bench.table import MISSED, Row, markdown  # noqa: E402

RESULTS: Final = Section(HERE / "README.md", "results: written by run.py --write")


class Measurement(NamedTuple):
    measure: Callable[[Plan], Iterable[Row]]
    lacks: Callable[[], str] = str


MEASUREMENTS: Final = {
    "drain": Measurement(drain.measure),
    "waiting": Measurement(waiting.measure),
    "post": Measurement(web.measure_post, web.lacks),
    "batch": Measurement(web.measure_batch, web.lacks),
    "crowd": Measurement(crowd.measure),
    "latency": Measurement(latency.measure),
    "wakeups": Measurement(wakeups.measure),
    "start": Measurement(start.measure),
    "limits": Measurement(limits.measure),
    "unique": Measurement(unique.measure),
    "history": Measurement(history.measure),
    "churn": Measurement(churn.measure),
    "cost": Measurement(cost.measure, web.lacks),
    "apart": Measurement(apart.measure),
}


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, _stop)
    try:
        return _run(options)
    except KeyboardInterrupt:
        complain("stopped")
        return 130


def _stop(*_: object) -> None:
    """Unwinds, so that every program is stopped; a second signal must not cut that short."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds of fewer tasks: only rough")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    options = parser.parse_args()
    if options.write and (options.quick or options.only):
        parser.error("--write takes the whole run: without --quick and --only")
    return options


def _run(options: argparse.Namespace) -> int:
    names = options.only or list(MEASUREMENTS)
    if lacking := _lacking(names):
        complain(lacking)
        return 2
    peer.prepare()
    servers.prepare()
    plan = Plan(QUICK_ROUNDS if options.quick else ROUNDS, options.quick)
    described = machine.described()
    rows: list[Row] = []
    try:
        for name in names:
            rows.extend(_measured(name, plan))
    finally:  # also of a run that a failure or Ctrl-C has cut short
        report = f"{described}\n\n{markdown(rows)}"
        print(report)
    if options.write:
        RESULTS.write(report)
    return 1 if any(row.verdict == MISSED for row in rows) else 0


def _lacking(names: Sequence[str]) -> str:
    """What this machine lacks for these, how to get it, and how to go on without; nothing if they can run."""
    reasons = {name: reason for name in names if (reason := MEASUREMENTS[name].lacks())}
    if not reasons:
        return ""
    without = " ".join(f"--only {name}" for name in names if name not in reasons)
    go_on = f"; to go on without {', '.join(reasons)}: {without}" if without else ""
    return f"bench: {', '.join(sorted({*reasons.values()}))}{go_on}"


def _measured(name: str, plan: Plan) -> Iterator[Row]:
    begun = time.monotonic()
    complain(name)
    yield from MEASUREMENTS[name].measure(plan)
    complain(f"  took {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
