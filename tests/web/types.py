"""Task types for the tests of the web application."""

from typing import Any, Literal

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


@task("letter.send")
def send_letter(
    context: Any,
    to: str | None,
    text: str = "Dear friend,",
    copies: int | None = 1,
    express: bool | None = True,
    paper: Literal["thin", "thick"] | None = "thin",
    more: Any = 0,
) -> None:
    """Takes null, and texts that may be empty."""


@task("urgent", priority="high")
def urgent(context: Any) -> None:
    """Comes before others."""


@task("bounded", limits=("per-customer",))
def bounded(context: Any, customer: str = "nobody") -> None:
    """Is bound by a limit."""


@task("bounded.twice", limits=("per-customer", "partner"))
def bounded_twice(context: Any, customer: str = "nobody", partner: str = "nobody") -> None:
    """Is bound by two."""
