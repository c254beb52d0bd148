"""Dramatiq with its defaults, results stored."""

import itertools
import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.rate_limits import ConcurrentRateLimiter
from dramatiq.rate_limits.backends import RedisBackend as LimitsBackend
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

url = f"unix://{os.environ['BENCH_REDIS']}"
broker = RedisBroker(url=url)
broker.add_middleware(Results(backend=RedisBackend(url=f"{url}?db=1"), store_results=True))
dramatiq.set_broker(broker)
limits = LimitsBackend(url=url)
keys = itertools.cycle(range(50))


@dramatiq.actor
def echo(message: str = "") -> str:
    return message


def send() -> None:
    echo.send()


@dramatiq.actor(min_backoff=100, max_retries=100)
def one_at_once(key: int) -> None:
    """Who finds its key taken is tried again after a tenth of a second and more; the default is 15 seconds."""
    with ConcurrentRateLimiter(limits, f"key-{key}", limit=1).acquire():
        pass


def send_one_at_once() -> None:
    one_at_once.send(next(keys))
