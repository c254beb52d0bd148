"""What a shell may complete a word to. A service that does not answer at once suggests nothing.

Shells put it onto the line as it is: a name that says something to a shell is left out.
"""

import re
from typing import Final

import click

from service.errors import SandboxError

ANSWER_SECONDS: Final = 1.0  # somebody has typed Tab, and waits
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def types(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return _beginning(incomplete, "/types", "types", "type")


def queues(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return _beginning(incomplete, "/queues", "queues", "queue")


def limits(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return _beginning(incomplete, "/limits", "limits", "limit")


def schedules(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return _beginning(incomplete, "/schedules", "schedules", "name")


def _beginning(incomplete: str, path: str, member: str, name: str) -> list[str]:
    from service.cli.caller import Service

    try:
        found = [each[name] for each in Service(0, answer_seconds=ANSWER_SECONDS).get(path)[member]]
    except (SandboxError, LookupError, TypeError):
        return []
    return [each for each in found if isinstance(each, str) and NAME.fullmatch(each) and each.startswith(incomplete)]
