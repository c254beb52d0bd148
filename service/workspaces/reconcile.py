"""Looks after all workspaces: what is missing is started, what was cut off goes on, what is idle falls asleep, and what
has expired is deleted, unless that would lose work.

What is on the disk and belongs to no record is reported, and left alone.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from service.tasks import moments
from service.workspaces import engine, names, record
from service.workspaces.hands import HandsFailed
from service.workspaces.record import WorkspaceBusy
from service.workspaces.work import Plan, Told, Work

CUT_OFF_SECONDS: Final = 900.0  # a task that is tried again comes sooner
FRESH_SECONDS: Final = 3600.0  # after a use its work and its disk are looked at anew
MAY_EXPIRE: Final = (record.READY, record.STOPPED, record.ASLEEP, record.FAILED)


def reconcile(plan: Plan, told: Told) -> dict[str, Any]:
    done: dict[str, list[str]] = {name: [] for name in ("started", "resumed", "asleep", "awake", "expired", "failed")}
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
    orphans = sorted(_orphans(plan, told))
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
    if found.state not in MAY_EXPIRE:
        return ""
    last_used = _last_used(work)
    if _expires(work, last_used, now):
        return "expired"
    if found.state != record.READY:
        return ""
    if now - last_used > work.plan.idle_days * record.DAY_SECONDS:
        work.hands.sleep(work.slug, found.port or 0)
        engine.measure(work)
        _becomes(work, record.ASLEEP)
        return "asleep"
    if now - last_used < FRESH_SECONDS:
        engine.measure(work)
        work.save()
    if not work.hands.status(work.slug).pid:
        work.hands.start(work.slug, found.port or 0)
        return "started"
    return ""


def _becomes(work: Work, state: str) -> None:
    work.record.state = state
    work.record.task = None
    work.save()


def _last_used(work: Work) -> float:
    """Looking at it here counts as no use, and what is seen is kept for the page. Of one that has failed nothing is."""
    used = None if work.record.state == record.FAILED else work.hands.last_used(work.slug)
    known = work.record.last_used or work.record.created_at
    last = max(used or 0.0, moments.microseconds(known) / 1e6 if known else 0.0)
    if used and last == used:
        work.record.last_used = moments.stamp(used)
    return last


def _expires(work: Work, last_used: float, now: float) -> bool:
    """Is it deleted? The record tells from when on that is to be."""
    found = work.record
    expires_at = record.expiry(last_used, work.plan.expire_days)
    if expires_at != found.expires_at:
        found.expires_at = expires_at
        work.save()
    if expires_at is None or moments.stamp(now) < expires_at:
        return False
    try:
        engine.remove(work, force=False, keep_branch=False)
    except engine.UnsavedWork as error:
        work.told.log(f"{work.slug} has expired, and stays: {error}")
        return False
    return True


def _age(stamp: str, now: float) -> float:
    return now - moments.microseconds(stamp) / 1e6 if stamp else 0.0


def _orphans(plan: Plan, told: Told) -> Iterator[str]:
    known: set[str] = {each.slug for each in plan.shelf.all()}
    places, entries = plan.places, plan.places.run / "conf.d"
    for folder, what, found in (
        (places.homes, "the folder", _homes(plan, told)),
        (places.sockets, "the socket", _listed(places.sockets)),
        (entries, "the entry", _listed(entries)),
    ):
        for name in found:
            slug = name.lstrip(".").partition(".")[0]
            if names.is_slug(slug) and slug not in known:
                yield f"{what} {folder / name}"


def _homes(plan: Plan, told: Told) -> list[str]:
    """A steward that was installed earlier does not tell."""
    try:
        return plan.hands.homes()
    except HandsFailed as error:
        told.log(f"folders that are nobody's are not looked for: {error}")
        return []


def _listed(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []
