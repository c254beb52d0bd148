"""Wake-ups: a process hears of changed documents while somebody in it waits for one.

The scripts that change documents publish the new status and the UIDs, once a batch, on the channel of the
partition. For each partition that somebody follows there is one connection and one thread, which end a few
seconds after the last follower has left.

Messages may be lost, documents are the truth: followers look for themselves after each subscribing and once
a second. While nothing can be subscribed to, they look more often.

Threads and greenlets alike: the web worker patches `threading` and sockets.
"""

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Final, Protocol

from service.errors import StoreRefused, StoreUnavailable
from service.store import keys
from service.store.connection import Subscription, Wire

LOOK_SECONDS: Final = 1.0
LISTEN_SECONDS: Final = 1.0
DEAF_LOOK_SECONDS: Final = 0.1
SUBSCRIBE_SECONDS: Final = 1.0
LINGER_SECONDS: Final = 5.0

log = logging.getLogger("sandbox.store")


class Follower(Protocol):
    def changed(self, partition: int, status: str, uids: Sequence[str]) -> None:
        """These documents have got this status."""
        ...

    def look(self, partition: int) -> None:
        """Any document of the partition may have changed."""
        ...


class Wakeups:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._lock = threading.Lock()
        self._listeners: dict[int, Listener] = {}

    def follow(self, partition: int, follower: Follower, *, look_seconds: float = LOOK_SECONDS) -> None:
        """From now on the follower hears of changes. It looks itself for those that came before. In a process all want
        to look as often.
        """
        with self._lock:
            listener = self._listeners.get(partition)
            if listener is None or not listener.add(follower):
                self._listeners[partition] = Listener(self._wire, partition, follower, look_seconds)

    def close(self) -> None:
        with self._lock:
            for listener in self._listeners.values():
                listener.end()

    def unfollow(self, partition: int, follower: Follower) -> None:
        with self._lock:
            self._listeners[partition].remove(follower)


class Listener:
    """The thread that listens for one partition."""

    def __init__(self, wire: Wire, partition: int, follower: Follower, look_seconds: float) -> None:
        self._wire = wire
        self._partition = partition
        self._look_seconds = look_seconds
        self._lock = threading.Lock()
        self._followers = {follower}
        self._left_at = 0.0
        self._over = False
        threading.Thread(target=self._listen, name=f"changes-{partition}", daemon=True).start()

    def add(self, follower: Follower) -> bool:
        """False when the thread has ended."""
        with self._lock:
            self._followers.add(follower)
            return not self._over

    def remove(self, follower: Follower) -> None:
        with self._lock:
            self._followers.discard(follower)
            self._left_at = time.monotonic()

    def end(self) -> None:
        self._over = True

    def _is_wanted(self) -> bool:
        with self._lock:
            idle = not self._followers and time.monotonic() - self._left_at > LINGER_SECONDS
            self._over = self._over or idle
            return not self._over

    def _listen(self) -> None:
        while self._is_wanted():
            try:
                with closing(self._wire.subscribe(self._partition, keys.changes(self._partition))) as subscription:
                    self._follow(subscription)
            except (StoreUnavailable, StoreRefused) as error:
                log.warning("%s; who waits for a change learns of it a little later", error, extra={"once": "wakeups"})
            except Exception as error:  # nothing may end the thread: others wait for it
                log.error("wake-ups failed", exc_info=error, extra={"once": "wakeups"})
            self._look_for_a_while()

    def _follow(self, subscription: Subscription) -> None:
        next_look = 0.0
        while self._is_wanted():
            if time.monotonic() >= next_look:
                self._look()
                next_look = time.monotonic() + self._look_seconds
            message = subscription.next(min(LISTEN_SECONDS, max(0.0, next_look - time.monotonic())))
            if message is not None:
                status, *uids = message.decode().split(" ")
                for follower in self._present():
                    follower.changed(self._partition, status, uids)

    def _look_for_a_while(self) -> None:
        until = time.monotonic() + SUBSCRIBE_SECONDS
        while self._is_wanted() and time.monotonic() < until:
            self._look()
            time.sleep(DEAF_LOOK_SECONDS)

    def _look(self) -> None:
        for follower in self._present():
            follower.look(self._partition)

    def _present(self) -> list[Follower]:
        with self._lock:
            return list(self._followers)
