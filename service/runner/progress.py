"""Publishes since when a task runs and how far it is, and sees whether the task is still ours."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from service.errors import Cancelled
from service.runner.holdings import Held
from service.runner.lane import Lane, Running
from service.runner.lockfile import Presence
from service.runner.upkeep import Upkeep
from service.store import Change, Store, by_partition, document, to_each
from service.tasks import moments, transitions

PUBLISH_SECONDS: Final = 0.4


class Progress:
    def __init__(self, lanes: Sequence[Lane], *, store: Store, presence: Presence) -> None:
        self._lanes = lanes
        self._store = store
        self._presence = presence

    def register(self, upkeep: Upkeep) -> None:
        upkeep.every(PUBLISH_SECONDS, self.publish)

    def publish(self) -> None:
        """Publishes the state of long tasks only: a short one ends before anybody could read it."""
        runs = [running for lane in self._lanes if (running := lane.running) is not None and running.is_long()]
        to_each(by_partition(runs, attrgetter("held.entry.partition")).values(), self._look_at)

    def _look_at(self, runs: Sequence[Running]) -> None:
        texts = self._store.texts([running.held.entry.uid for running in runs])
        for running, text in zip(runs, texts, strict=True):
            if not _is_ours(running.held, text):
                running.interrupt(Cancelled)
            else:
                self._publish(running)

    def _publish(self, running: Running) -> None:
        """What cannot be stored now is published the next time."""
        task, text = running.held.document
        after, news = task, running.context.news
        if task.started_at is None:
            after = transitions.started(after, moments.stamp(running.started))
        if news is not None and news is not running.published:
            after = transitions.progressed(after, news)
        if after is task:
            return
        change = Change(text, task, after, running.held.entry)
        for _, stored in self._store.move([change], consumer=self._presence.consumer).stored:
            running.held.document = stored
            running.published = news


def _is_ours(held: Held, text: bytes | None) -> bool:
    """Does the document name this claim? If it has changed, it is remembered as it is now."""
    if text == held.document.text:
        return True
    found = document(held.entry.uid, text)
    if found is None or found.task.claim is None or found.task.claim.token != held.token:
        return False
    held.document = found
    return True
