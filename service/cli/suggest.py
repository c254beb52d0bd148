"""What a shell may complete a word to. A service that does not answer at once suggests nothing."""

from collections.abc import Iterable

import click

from service.errors import SandboxError


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
        found: Iterable[str] = (each[name] for each in Service(0).get(path)[member])
        return [each for each in found if each.startswith(incomplete)]
    except (SandboxError, LookupError):
        return []
