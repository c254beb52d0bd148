"""How circusd loads circus.ini: what cannot be made ends the start.

Each function is given what it replaces in circus, and returns what takes its place (private_names.py).
"""

import os
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from circus import logger
from circus.config import get_config
from zmq import ZMQError

from service import settings
from service.errors import SandboxError
from service.supervise import restart
from service.supervise.start import checks, handover, listener, orphans, state


def load_everything(stock: Callable[..., Any]) -> "staticmethod[..., Any]":
    def load_everything(config_file: str, loop: Any = None) -> Any:
        arbiter = stock(config_file, loop)
        config = get_config(config_file)
        _refuse_missing("watcher", config["watchers"], {watcher.name for watcher in arbiter.watchers})
        _refuse_missing("socket", config["sockets"], set(arbiter.sockets))
        try:
            checks.check_order(
                settings.read(os.environ), {watcher.name: watcher.graceful_timeout for watcher in arbiter.watchers}
            )
        except SandboxError as error:
            raise SystemExit(f"sandbox: {error}") from error
        return arbiter

    return staticmethod(load_everything)


def _refuse_missing(kind: str, wanted: Iterable[dict[str, Any]], made: set[str]) -> None:
    for name in sorted({section["name"] for section in wanted} - made):
        raise SystemExit(f"sandbox: circusd could not make the {kind} {name}; the reason stands above.")


def initialize_or_exit(stock: Callable[[Any], None]) -> Callable[[Any], None]:
    def initialize_or_exit(arbiter: Any) -> None:
        try:
            stock(arbiter)
        except (OSError, ZMQError) as error:
            raise SystemExit(f"sandbox: circusd could not listen: {error}") from error
        if handover.received is None:
            listener.let_go()
        if orphans.taken_over:
            logger.info(orphans.taken_over)
        try:
            restart.begin(arbiter)
        except SandboxError as error:  # circus would end with 0
            raise SystemExit(f"sandbox: {error}") from error

    return initialize_or_exit


def open_to_the_control_group(stock: Callable[[Any], None]) -> Callable[[Any], None]:
    def initialize(controller: Any) -> None:
        stock(controller)
        read = settings.read(os.environ)
        if read.control_group:
            control_socket = read.sockets / "control.sock"
            os.chown(control_socket, -1, state.control_group(read))
            control_socket.chmod(0o770)

    return initialize


def load_socket(stock: Callable[[dict[str, Any]], Any]) -> "staticmethod[..., Any]":
    def load_socket(config: dict[str, Any]) -> Any:
        """An empty path is none; circus would take it for a unix socket's."""
        found = stock({name: value for name, value in config.items() if name != "path" or value})
        found._cfg = config.copy()
        return found

    return staticmethod(load_socket)


def stay_in_the_foreground(_: object) -> Callable[[], NoReturn]:
    def stay_in_the_foreground() -> NoReturn:
        raise SystemExit("sandbox: --daemon is not possible: start it under an init system, or with `setsid`.")

    return stay_in_the_foreground


def time_that_goes_on(_: object) -> Callable[[Any], float]:
    def time_that_goes_on(loop: Any) -> float:
        """For the loop's timers. Nobody can put this clock back."""
        return time.monotonic()

    return time_that_goes_on
