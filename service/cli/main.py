"""The command `sandbox`: a module for each noun. A command imports what it needs when it is called."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

from service.cli import backups, graphite_dashboards, instance, processes, restarts, tokens
from service.errors import SandboxError

NOUNS: Final = (instance, restarts, processes, backups, graphite_dashboards, tokens)


def main(words: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(words)
    try:
        _refuse_nowhere()
        return int(arguments.command(arguments))
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _refuse_nowhere() -> None:
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise SandboxError("the folder that this command is typed in has gone. `cd` to one that is there.") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sandbox", description="A task service: HTTP, Redis, runners.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for noun in NOUNS:
        noun.add_commands(commands)
    return parser
