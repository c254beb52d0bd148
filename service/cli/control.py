"""Speaks to the circusd that runs on the state folder, over its control socket, as circusctl does."""

import json
import os
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from service.cli.caller import CONFLICT, FAILED, NOT_ALLOWED, UNAVAILABLE, CallFailed

if TYPE_CHECKING:
    from service.settings import Settings

ANSWER_SECONDS: Final = 5.0  # counted from the last sign of life
TICK_MILLISECONDS: Final = 100


def circusd(read: "Settings") -> int | None:
    """The process that supervises this state folder, if one does."""
    from service.supervise.start import state

    try:
        return state.owner(read)
    except PermissionError as error:
        told = f"{read.sockets} is closed to you. The service's user may enter it, and SANDBOX_CONTROL_GROUP."
        raise CallFailed(told, NOT_ALLOWED) from error


def ask(
    read: "Settings", command: str, *, tick: Callable[[], None] = lambda: None, **properties: Any
) -> dict[str, Any]:
    """Calls `tick` now and then until the answer is there. Raises CallFailed if circusd refuses."""
    import zmq

    path = read.sockets / "control.sock"
    if path.exists() and not os.access(path, os.W_OK):
        raise CallFailed(f"{path} is closed to you: only members of SANDBOX_CONTROL_GROUP may use it.", NOT_ALLOWED)
    number = uuid.uuid4().hex
    control: Any
    with zmq.Context.instance().socket(zmq.DEALER) as control:
        control.linger = 0
        control.connect(f"ipc://{path}")
        control.send_json({"id": number, "command": command, "properties": properties})
        until = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < until:
            tick()
            if control.poll(TICK_MILLISECONDS):
                answer: dict[str, Any] = json.loads(control.recv())
                if answer.get("id") == number:
                    return _good(answer)
                until = time.monotonic() + ANSWER_SECONDS
    raise CallFailed(f"circusd does not answer at {path}. Try again; log/circus.log says what it does.", UNAVAILABLE)


def _good(answer: dict[str, Any]) -> dict[str, Any]:
    if answer.get("status") != "error":
        return answer
    reason = str(answer["reason"])
    is_busy = "under way" in reason or answer.get("errno") == 5  # circus carries out another command
    raise CallFailed(reason, CONFLICT if is_busy else FAILED, answer)
