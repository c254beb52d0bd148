"""`sandbox token`: API tokens in the file that SANDBOX_TOKENS names."""

import os
from pathlib import Path

import click

from service.cli.parsing import group
from service.errors import InvalidToken, SettingsError


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


@token.command(help="print a link that signs somebody in on the page, once, within ten minutes")
@click.argument("name")
@click.option("--url", help="where the browser finds the service; without it, where the service listens")
def link(name: str, url: str | None) -> None:
    from service import settings
    from service.cli import wiring
    from service.store import Session
    from service.web import token_file

    known = settings.read(os.environ)
    found = next((each for each in token_file.read(_tokens_file()) if each.name == name), None)
    if found is None:
        raise InvalidToken(f"there is no token {name}; `sandbox token list` shows which there are")
    url = url or known.page_url
    if not url:
        raise SettingsError(f"the service listens on {known.bind}: say with --url where a browser finds it.")
    store = wiring.store(known)
    print(f"{url.rstrip('/')}/ui/sign-in?code={store.sessions.make_code(Session(found.name, found.hash))}")
    store.close()


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
