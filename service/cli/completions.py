"""`sandbox completion`: what a shell needs to complete the words of the command."""

from typing import Final

import click

from service.cli.parsing import COMPLETE, command

SHELLS: Final = ("bash", "zsh", "fish")
# click's script for fish cuts what it shows at its first comma.
WHOLE: Final = ('string split ","', 'string split -m 1 ","')


@command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(context.find_root().command, {}, "sandbox", COMPLETE).source()
    print(script.replace(*WHOLE) if shell == "fish" else script)
