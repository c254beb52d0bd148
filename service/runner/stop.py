"""The wish to stop, as everything in a runner sees it."""

import time
from typing import Final

NAP_SECONDS: Final = 0.05


class Stop:
    """The wish to stop; a signal handler may set it, because it is one assignment."""

    def __init__(self) -> None:
        self.since: float | None = None

    def request(self) -> None:
        if self.since is None:
            self.since = time.monotonic()

    def is_set(self) -> bool:
        return self.since is not None

    def seconds(self) -> float:
        """Since the wish."""
        return 0.0 if self.since is None else time.monotonic() - self.since

    def wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self.since is None and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, NAP_SECONDS))
