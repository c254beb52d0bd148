"""What a process finds when it begins, its standard streams and its folder, and how it says that it has failed."""

import io
import os
import sys
from typing import Final

from service.errors import SandboxError

FAILED: Final = 1
INTERRUPTED: Final = 130


def mend_streams() -> None:
    _open_what_is_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):  # where it is not UTF-8, other signs are escaped
        sys.stdout.reconfigure(errors="backslashreplace")


def _open_what_is_closed() -> None:
    """Of the standard streams, before a file of ours gets the number of one: what is printed would get into it."""
    for name, mode in {"stdin": "r", "stdout": "w", "stderr": "w"}.items():
        if getattr(sys, name) is None:
            lowest = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(lowest, True)
            setattr(sys, name, open(lowest, mode, closefd=False))  # noqa: SIM115 - for life


def refuse_nowhere() -> None:
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise SandboxError("the folder that this command is typed in has gone. `cd` to one that is there.") from error
