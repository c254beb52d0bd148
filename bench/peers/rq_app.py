"""RQ with its SimpleWorker, which does not fork per task; results stored."""

import os
import uuid

from redis import Redis
from rq import Queue, SimpleWorker

connection = Redis(unix_socket_path=os.environ["BENCH_REDIS"])
queue = Queue(connection=connection)


def echo(message: str = "") -> str:
    return message


def send() -> None:
    queue.enqueue("bench.peers.rq_app.echo")


def send_unique() -> None:
    queue.enqueue("bench.peers.rq_app.echo", job_id=uuid.uuid4().hex, unique=True)


if __name__ == "__main__":
    SimpleWorker([queue], connection=connection).work(logging_level="WARNING")
