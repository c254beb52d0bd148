"""Celery with its defaults: JSON, acknowledged early, four tasks prefetched per process, results stored."""

import os
import time

from celery import Celery

socket = os.environ["BENCH_REDIS"]
app = Celery(
    "peers", broker=f"redis+socket://{socket}?virtual_host=0", backend=f"redis+socket://{socket}?virtual_host=1"
)


@app.task
def echo(message: str = "") -> str:
    return message


@app.task
def moment() -> float:
    return time.time()


def send() -> None:
    echo.delay()


def send_moment():  # type: ignore[no-untyped-def]
    return moment.delay().get
