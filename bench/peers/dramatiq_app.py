"""Dramatiq with its defaults, results stored."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

url = f"unix://{os.environ['BENCH_REDIS']}"
broker = RedisBroker(url=url)
broker.add_middleware(Results(backend=RedisBackend(url=f"{url}?db=1"), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor
def echo(message: str = "") -> str:
    return message


def send() -> None:
    echo.send()
