"""`sandbox token`: API tokens in the file that SANDBOX_TOKENS names."""

import argparse
import os
from pathlib import Path

from service.cli.parsing import Commands, add, group
from service.errors import SettingsError


def add_commands(commands: Commands) -> None:
    tokens = group(commands, "token", "API tokens in the file that SANDBOX_TOKENS names")
    adds = add(tokens, "add", token_add, "make a token and show it once")
    adds.add_argument("name", metavar="NAME")
    adds.add_argument("--scope", choices=("read", "write"), required=True)
    add(tokens, "list", token_list, "names and scopes")
    removes = add(tokens, "remove", token_remove, "make a token invalid")
    removes.add_argument("name", metavar="NAME")


def token_add(arguments: argparse.Namespace) -> int:
    from service.web import token_file

    print(token_file.add(_tokens_file(), arguments.name, arguments.scope))
    return 0


def token_list(_: argparse.Namespace) -> int:
    from service.web import token_file

    for token in token_file.read(_tokens_file()):
        print(f"{token.name}\t{token.scope}")
    return 0


def token_remove(arguments: argparse.Namespace) -> int:
    from service.web import token_file

    token_file.remove(_tokens_file(), arguments.name)
    return 0


def _tokens_file() -> Path:
    from service import settings

    file = settings.read(os.environ).tokens
    if file is None:
        raise SettingsError("SANDBOX_TOKENS is not set; it names the file that holds the tokens.")
    return file
