"""Task types for the tests of the web application."""

from typing import Any

from service.tasks.declare import task


@task("report.build", queue="reports", max_attempts=5, timeout=120)
def build_report(context: Any, month: str, rows: int = 10) -> None:
    """Builds a report."""


@task("elsewhere", queue="not-served")
def elsewhere(context: Any) -> None:
    """Its own queue is not served here."""


@task("account.open", secret=("password", "pin_code"))
def open_account(context: Any, name: str, password: str = "", pin_code: int = 0) -> None:
    """Has arguments that are nobody's business."""
