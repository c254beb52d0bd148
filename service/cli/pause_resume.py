"""What pauses and resumes a queue or a type, and how a pause is shown.

`sandbox types` shows it without asking the service: HTTP is imported by what asks.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def explained(function: Decorated) -> Decorated:
    """Of a command that pauses."""
    moment = "when it goes on by itself, as in 2026-12-24T18:00:00+01:00"
    for option in (
        click.option("--until", metavar="MOMENT", help=moment),
        click.option("--reason", help="shown to everybody who looks"),
    ):
        function = option(function)
    return function


def pause(kind: str, name: str, timeout: float | None, reason: str | None, until: str | None) -> dict[str, Any]:
    from service.cli.caller import Service, part

    said = {"reason": reason, "until": until}
    body = {field: value for field, value in said.items() if value is not None}
    paused: dict[str, Any] = Service(timeout).post(f"/{kind}/{part(name)}/pause", body, again=True)
    return paused


def resume(kind: str, name: str, timeout: float | None) -> dict[str, Any]:
    from service.cli.caller import Service, part

    resumed: dict[str, Any] = Service(timeout).post(f"/{kind}/{part(name)}/resume", again=True)
    return resumed


def state(each: dict[str, Any]) -> str:
    if not (paused := each["paused"]):
        return "open"
    until = f" until {paused['until']}" if paused["until"] else ""
    return f"paused{until}{f': {reason}' if (reason := paused['reason']) else ''}"
