"""`sandbox token`: API tokens in the file that SANDBOX_TOKENS names."""

import argparse
import os
from pathlib import Path

from service.cli.parsing import Commands, add, group
from service.errors import InvalidToken, SettingsError


def add_commands(commands: Commands) -> None:
    tokens = group(commands, "token", "API tokens in the file that SANDBOX_TOKENS names")
    adds = add(tokens, "add", token_add, "make a token and show it once")
    adds.add_argument("name", metavar="NAME")
    adds.add_argument("--scope", choices=("read", "write"), required=True)
    add(tokens, "list", token_list, "names and scopes")
    links = add(tokens, "link", token_link, "print a link that signs somebody in on the page, once, within ten minutes")
    links.add_argument("name", metavar="NAME")
    links.add_argument("--url", help="where the browser finds the service; without it, where the service listens")
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


def token_link(arguments: argparse.Namespace) -> int:
    from service import settings
    from service.cli import wiring
    from service.web import token_file

    known = settings.read(os.environ)
    if all(token.name != arguments.name for token in token_file.read(_tokens_file())):
        raise InvalidToken(f"there is no token {arguments.name}; `sandbox token list` shows which there are")
    url = arguments.url or known.page_url
    if not url:
        raise SettingsError(f"the service listens on {known.bind}: say with --url where a browser finds it.")
    store = wiring.store(known)
    print(f"{url.rstrip('/')}/ui/sign-in?code={store.sessions.make_code(arguments.name)}")
    store.close()
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
