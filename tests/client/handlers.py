"""Task types whose runs can be counted, and the one of the page's examples."""

import time
from pathlib import Path

from service import Context, Reject, task


@task("client.note")
def note(context: Context, path: str) -> int:
    """Each run is a line of the file."""
    with Path(path).open("a") as file:
        file.write(f"{context.uid}\n")
    return context.attempt


@task("report.build")
def build_report(context: Context, month: str) -> str:
    """Builds the report of a month."""
    if month == "2026-02":
        raise Reject("it is too short")
    return f"/reports/{month}.pdf"


@task("client.talk", max_attempts=1)
def talk(context: Context, lines: int = 3, until: str = "") -> None:
    """Says something, and goes on until a file is there."""
    for number in range(lines):
        context.log(f"line {number}")
    while until and not Path(until).exists():
        context.log("more")
        time.sleep(0.05)
    context.log("last")
