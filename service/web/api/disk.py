"""What becomes of a request when files do not: the disk is full, a folder is somebody else's, too many are open."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from service.web import answers

WORKSPACES: Final = "the files of the workspaces"
RELEASES: Final = "the files of the releases"
_log = logging.getLogger(__name__)


@contextmanager
def usable(files: str) -> Iterator[None]:
    """Raises a problem if they are not. Their path is for the log: not everybody who asks may know it."""
    try:
        yield
    except OSError as error:
        _log.warning("answering 503: %s cannot be used: %s", files, error, extra={"once": files})
        reason = error.strerror or type(error).__name__
        raise answers.unavailable(f"{files} cannot be used ({reason})") from error
