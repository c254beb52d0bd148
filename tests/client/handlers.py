"""Task types whose runs can be counted, and the one of the page's examples."""

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
