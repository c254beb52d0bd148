"""Task types with faults: in the check of their arguments, which the web makes, and in their handlers."""

import logging
import os
import threading
import time
from typing import Any

import msgspec

from service.tasks.declare import task


class Order(msgspec.Struct):
    number: int
    card: dict[str, str] = {}

    def __post_init__(self) -> None:
        raise LookupError(f"no warehouse for order {self.number}")


@task("faulty.check")
def faulty_check(context: Any, order: Order) -> None:
    """Its argument cannot even be read."""


@task("faulty.run", max_attempts=1)
def faulty_run(context: Any, number: int, password: str = "") -> None:
    logging.getLogger("shop").info("order %d, password=%s", number, password)
    raise ValueError(f"no stock for order {number}")


@task("faulty.stuck", max_attempts=1, secret=("word",))
def faulty_stuck(context: Any, word: str) -> None:
    """The argument's name does not say that it is a secret."""
    while True:
        try:
            time.sleep(60)
        except BaseException:
            logging.getLogger("shop").info("stays")


@task("faulty.twice", max_attempts=2)
def faulty_twice(context: Any) -> None:
    raise OSError("the disk is gone")


@task("faulty.thread")
def faulty_thread(context: Any) -> None:
    thread = threading.Thread(target=faulty_run, args=(context, 5), name="side-job")
    thread.start()
    thread.join()


@task("faulty.caught")
def faulty_caught(context: Any) -> None:
    """Sees to its error itself, and logs it by a logger that knows nothing of tasks."""
    try:
        {}["month"]
    except KeyError:
        logging.getLogger(__name__).exception("no month", extra={"rows": 7, "password": "hunter2-x9"})
    logging.getLogger(__name__).error("nor a day")


@task("faulty.apart", max_attempts=1, process=True)
def faulty_apart(context: Any, crashes: bool, password: str) -> None:
    logging.getLogger("shop").error("the shelf is empty")
    if crashes:
        os._exit(9)
    faulty_run(context, 23, password)
