"""`sandbox token`: API tokens in the file that SANDBOX_TOKENS names."""

import os
from pathlib import Path

import click

from service.cli.parsing import group
from service.errors import SettingsError


@group()
def token() -> None: ...


@token.command(help="make a token and show it once")
@click.argument("name")
@click.option("--scope", type=click.Choice(("read", "write")), required=True)
def add(name: str, scope: str) -> None:
    from service.web import token_file

    print(token_file.add(_tokens_file(), name, scope))


@token.command("list", help="names and scopes")
def list_() -> None:
    from service.web import token_file

    for each in token_file.read(_tokens_file()):
        print(f"{each.name}\t{each.scope}")


@token.command(help="make a token invalid")
@click.argument("name")
def remove(name: str) -> None:
    from service.web import token_file

    token_file.remove(_tokens_file(), name)


def _tokens_file() -> Path:
    from service import settings

    file = settings.read(os.environ).tokens
    if file is None:
        raise SettingsError("SANDBOX_TOKENS is not set; it names the file that holds the tokens.")
    return file
