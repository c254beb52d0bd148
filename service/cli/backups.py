"""`sandbox backup`."""

import os
from pathlib import Path

import click

from service.cli.parsing import command
from service.errors import SettingsError


@command()
@click.argument("file", metavar="FILE.tar", type=click.Path(path_type=Path))
def backup(file: Path) -> None:
    from service import settings
    from service.embedded import backup
    from service.supervise.start import state

    read = settings.read(os.environ)
    if not read.embedded_redis:
        raise SettingsError("REDIS_URL is set, so the data are in that Redis. Back it up in its own way.")
    backup.save(state.redis_folder(read), file)
