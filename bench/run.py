"""Measures the service against its peers: `make bench`. README.md says how."""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).absolute().parent
sys.path[0] = str(HERE.parent)  # bench is a package; run as a script, Python would look inside it

from bench import churn, cost, drain, latency, machine, peer, waiting, wakeups, web  # noqa: E402
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
    "latency": Measurement(latency.measure),
    "wakeups": Measurement(wakeups.measure),
    "churn": Measurement(churn.measure),
    "cost": Measurement(cost.measure, web.lacks),
}


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds: every program is stopped
    try:
        return _run(options)
    except KeyboardInterrupt:
        complain("stopped")
        return 130


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
    peer.prepare()
    plan = Plan(QUICK_ROUNDS if options.quick else ROUNDS, options.quick)
    described = machine.described()
    skipped: list[str] = []
    rows = [row for name in options.only or MEASUREMENTS for row in _measured(name, plan, skipped)]
    report = f"{described}\n\n{markdown(rows)}"
    print(report)
    for line in skipped:
        complain(f"SKIPPED {line}")
    if options.write and not skipped:
        RESULTS.write(report)
    return 1 if skipped or any(row.verdict == MISSED for row in rows) else 0


def _measured(name: str, plan: Plan, skipped: list[str]) -> Iterator[Row]:
    measure, lacks = MEASUREMENTS[name]
    if reason := lacks():
        skipped.append(f"{name}: {reason}")
        return
    begun = time.monotonic()
    complain(name)
    yield from measure(plan)
    complain(f"  took {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
