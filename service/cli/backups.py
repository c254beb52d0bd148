"""`sandbox backup`."""

import argparse
import os
from pathlib import Path

from service.cli.parsing import Commands, add
from service.errors import SettingsError


def add_commands(commands: Commands) -> None:
    parser = add(commands, "backup", backup, "copy the embedded Redis's data while it works")
    parser.add_argument("file", metavar="FILE.tar", type=Path)


def backup(arguments: argparse.Namespace) -> int:
    from service import settings
    from service.embedded import backup
    from service.supervise.start import state

    read = settings.read(os.environ)
    if not read.embedded_redis:
        raise SettingsError("REDIS_URL is set, so the data are in that Redis. Back it up in its own way.")
    backup.save(state.redis_folder(read), arguments.file)
    return 0
