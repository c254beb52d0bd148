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


@task("urgent", priority="high")
def urgent(context: Any) -> None:
    """Comes before others."""


@task("bounded", limits=("per-customer",))
def bounded(context: Any, customer: str = "nobody") -> None:
    """Is bound by a limit."""


@task("bounded.twice", limits=("per-customer", "partner"))
def bounded_twice(context: Any, customer: str = "nobody", partner: str = "nobody") -> None:
    """Is bound by two."""
