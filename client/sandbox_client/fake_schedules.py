"""The schedules of a sandbox in memory: kept and shown, but their times do not come."""

from collections.abc import Callable
from typing import Any, Final

Json = dict[str, Any]

DEFAULTS: Final[Json] = {
    "args": {}, "queue": None, "cron": None, "every": None, "timezone": "UTC", "overlap": "skip", "catch_up": 300.0,
    "jitter": 0.0, "paused": False,
}  # fmt: skip


class FakeSchedules:
    def __init__(self, queue: str, stamp: Callable[[], str], refuse: Callable[..., Exception]) -> None:
        self._queue = queue
        self._stamp = stamp
        self._refuse = refuse
        self._kept: dict[str, Json] = {}

    def all(self) -> list[Json]:
        return [self._kept[name] for name in sorted(self._kept)]

    def find(self, name: str) -> Json:
        if name not in self._kept:
            raise self._refuse(404, f"there is no schedule {name}")
        return self._kept[name]

    def put(self, name: str, wanted: Json) -> tuple[int, Json]:
        if (wanted.get("cron") is None) == (wanted.get("every") is None):
            raise self._refuse(422, "cron: give either cron or every", field="cron")
        known, now = self._kept.get(name), self._stamp()
        told = {"last": None, "fired": 0, "skipped": 0, "missed": 0, "waiting": None, "source": "api", "orphan": False}
        words = wanted.get("cron") or f"Every {wanted.get('every')} seconds"
        self._kept[name] = {
            **DEFAULTS, **wanted, "name": name, "queue": wanted.get("queue") or self._queue, "words": words, "next": [],
            "created_at": known["created_at"] if known else now, "changed_at": now, "changed_by": None, **told,
        }  # fmt: skip
        return (200 if known else 201), self._kept[name]

    def delete(self, name: str) -> Json:
        found = self.find(name)
        del self._kept[name]
        return found

    def pause(self, name: str, is_paused: bool) -> Json:
        found = self.find(name)
        found["paused"] = is_paused
        return found
