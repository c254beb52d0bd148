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


@app.task(rate_limit="100000/s")
def hurried() -> None: ...


@app.task(rate_limit="20/s")
def paced() -> float:
    return time.time()


def send() -> None:
    echo.delay()


def send_hurried() -> None:
    hurried.delay()


def send_paced() -> None:
    paced.delay()


def send_moment():  # type: ignore[no-untyped-def]
    return moment.delay().get
