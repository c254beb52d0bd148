"""Huey with its defaults, results stored."""

import os
import time
from functools import partial

from huey import RedisHuey

huey = RedisHuey("peers", url=f"unix://{os.environ['BENCH_REDIS']}")


@huey.task()
def echo(message: str = "") -> str:
    return message


@huey.task()
def moment() -> float:
    return time.time()


def send() -> None:
    echo()


def send_moment():  # type: ignore[no-untyped-def]
    return partial(moment(), blocking=True, timeout=10, backoff=1, max_delay=0.005)
