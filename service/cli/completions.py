"""`sandbox completion`: what a shell needs to complete the words of the command."""

from typing import Final

import click

from service.cli.parsing import COMPLETE, command

SHELLS: Final = ("bash", "zsh", "fish")


@command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    print(kind(context.find_root().command, {}, "sandbox", COMPLETE).source())
