"""How commands are declared: with click, imported when they are called.

Starting the command must take no time that one notices. So the top group knows the names and texts of its commands, and
imports a command's module when that one is called.
"""

import importlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import click

COMPLETE: Final = "_SANDBOX_COMPLETE"  # a shell asks by this variable how a word may go on
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_SECONDS: Final = 1e9  # thirty years: a sleep or a socket does not take every number
DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Lazy(NamedTuple):
    """A command that is not imported yet: a module of `service.cli`, the name in it, and what the help says."""

    module: str
    name: str
    text: str


class _Formatter(click.HelpFormatter):
    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, prefix or "usage: ")


class _Context(click.Context):
    formatter_class = _Formatter


class Command(click.Command):
    context_class = _Context


class Verbatim(Command):
    """Takes all words as they are, options too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["words"] = tuple(args)
        return []


class Noun(click.Group):
    context_class = _Context
    command_class = Command
    group_class = type


class LazyGroup(Noun):
    def __init__(self, lazy: Mapping[str, Lazy], **attributes: Any) -> None:
        super().__init__(**attributes)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (lazy := self._lazy.get(cmd_name)) is None:
            return None
        command: click.Command = getattr(importlib.import_module(f"service.cli.{lazy.module}"), lazy.name)
        command.help = lazy.text
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=self._lazy, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("commands"):
            formatter.write_dl([(name, lazy.text) for name, lazy in self._lazy.items()])


class Duration(click.ParamType[float]):
    """Seconds, or a text as 90s, 5m, 1h30m, 2d."""

    name = "duration"

    def __init__(self, least: float = 0.0) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = _seconds(value)
        if seconds is None or not seconds <= LONGEST_SECONDS:  # nan is not
            self.fail(f"{value!r} is no duration; allowed are seconds, or as in 90s, 5m, 1h30m, 2d.", param, ctx)
        if seconds < self._least:
            self.fail(f"{value!r} is too short; the least is {self._least:g} s.", param, ctx)
        return seconds


def _seconds(value: Any) -> float | None:
    try:
        return float(value)
    except ValueError:
        parts = DURATION.findall(value)
    if not parts or "".join(map("".join, parts)) != value:
        return None
    return float(sum(float(number) * UNITS[unit] for number, unit in parts))


def command(**attributes: Any) -> Callable[[Callable[..., Any]], click.Command]:
    return click.command(cls=Command, **attributes)


def group(**attributes: Any) -> Callable[[Callable[..., Any]], Noun]:
    return click.group(cls=Noun, **attributes)


def as_json(function: Decorated) -> Decorated:
    text = "for programs: JSON, one document a line"
    return click.option("--json", "as_json", is_flag=True, help=text)(function)


def patient(function: Decorated) -> Decorated:
    text = "how long to try, and to wait (seconds, or as in 5m)"
    return click.option("--timeout", metavar="TIME", type=Duration(), help=text)(function)


def of_an_action(function: Decorated) -> Decorated:
    """Of a command that creates a task."""
    for option in (
        as_json,
        patient,
        click.option("--follow", is_flag=True, help="as --wait, and show its log and progress on the way"),
        click.option("--wait", "waits_for_it", is_flag=True, help="wait for its end; exit code 1 if it fails"),
    ):
        function = option(function)
    return function
