"""Looks after all workspaces: what is missing is started, what was cut off goes on, what is idle falls asleep.

What is on the disk and belongs to no record is reported, and left alone.
"""

import time
from collections.abc import Iterator
from typing import Any, Final

from service.tasks import moments
from service.workspaces import engine, names, record
from service.workspaces.places import Places
from service.workspaces.record import Shelf, WorkspaceBusy
from service.workspaces.work import Plan, Told, Work

CUT_OFF_SECONDS: Final = 900.0  # a task that is tried again comes sooner
DAY_SECONDS: Final = 86400.0


def reconcile(plan: Plan, told: Told) -> dict[str, Any]:
    done: dict[str, list[str]] = {"started": [], "resumed": [], "asleep": [], "awake": [], "failed": []}
    for found in plan.shelf.all():
        try:
            with plan.shelf.lock(found.slug):
                fresh = plan.shelf.read(found.slug)
                if fresh is not None and (what := _one(Work(plan, fresh, told))):
                    done[what].append(found.slug)
        except WorkspaceBusy:
            continue
        except Exception as error:  # one that is broken keeps nobody from the others
            told.log(f"{found.slug}: {error or type(error).__name__}")
            done["failed"].append(found.slug)
    orphans = sorted(_orphans(plan.places, plan.shelf))
    for each in orphans:
        told.log(f"nobody's: {each}")
    return {**{name: slugs for name, slugs in done.items() if slugs}, "orphans": orphans}


def _one(work: Work) -> str:
    found = work.record
    now = time.time()
    if found.state in (record.CREATING, record.DELETING) and _age(found.changed_at, now) > CUT_OFF_SECONDS:
        if found.state == record.CREATING:
            engine.build(work)
        else:
            engine.remove(work, force=True, keep_branch=False)
        return "resumed"
    if found.state == record.ASLEEP and work.hands.status(work.slug).pid:
        _becomes(work, record.READY)
        return "awake"
    if found.state != record.READY:
        return ""
    if _is_idle(work, now):
        work.hands.sleep(work.slug, found.port or 0)
        engine.measure(work)
        _becomes(work, record.ASLEEP)
        return "asleep"
    if not work.hands.status(work.slug).pid:
        work.hands.start(work.slug, found.port or 0)
        return "started"
    return ""


def _becomes(work: Work, state: str) -> None:
    work.record.state = state
    work.record.task = None
    work.save()


def _is_idle(work: Work, now: float) -> bool:
    """Looking at it here counts as no use. What it was last used for is kept for the page."""
    used = work.hands.last_used(work.slug)
    known = work.record.last_used or work.record.created_at
    last = max(used or 0.0, moments.microseconds(known) / 1e6 if known else 0.0)
    if used and last == used:
        work.record.last_used = moments.stamp(used)
    return now - last > work.plan.idle_days * DAY_SECONDS


def _age(stamp: str, now: float) -> float:
    return now - moments.microseconds(stamp) / 1e6 if stamp else 0.0


def _orphans(places: Places, shelf: Shelf) -> Iterator[str]:
    known: set[str] = {each.slug for each in shelf.all()}
    for folder, what in (
        (places.homes, "the folder"),
        (places.sockets, "the socket"),
        (places.run / "conf.d", "the entry"),
    ):
        for path in folder.iterdir() if folder.is_dir() else ():
            slug = path.name.lstrip(".").partition(".")[0]
            if names.is_slug(slug) and slug not in known:
                yield f"{what} {path}"
