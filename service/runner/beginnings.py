"""Threads that a handler begins: while one does, the thread of its attempt is not interrupted.

An exception is raised in the thread that has a number. Before Python 3.12, one that is about to begin has the number of
the thread that begins it, and is found first: it would die of the exception, and `Thread.start` would wait for it for
ever.
"""

import _thread
import sys
import threading
from _thread import get_ident
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from service.runner import window

IS_NEEDED: Final = sys.version_info < (3, 12)

_begin = _thread.start_new_thread


def hold_off_interruptions() -> None:
    """From now on, in this process."""
    if IS_NEEDED:
        threading._start_new_thread = start_new_thread  # type: ignore[attr-defined]
        _thread.start_new_thread = start_new_thread


def start_new_thread(
    function: Callable[..., object], args: Sequence[Any], kwargs: Mapping[str, Any] | None = None, /
) -> int:
    here = window.open_in(get_ident())
    if here is None:
        return _begin(function, tuple(args), dict(kwargs or {}))
    has_begun = _thread.allocate_lock()
    has_begun.acquire()

    def begun(*args: Any, **kwargs: Any) -> None:
        has_begun.release()
        function(*args, **kwargs)

    try:
        here.hold_off()
        number = _begin(begun, tuple(args), dict(kwargs or {}))
        has_begun.acquire()
    finally:
        here.let_go()
    return number
