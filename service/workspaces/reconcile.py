"""Looks after all workspaces: what is missing is started, what was cut off goes on, what is idle falls asleep, and what
has expired is deleted, unless that would lose work. What has failed, and nobody mends, is stopped.

What is on the disk and belongs to no record is reported, and left alone.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from service.tasks import moments
from service.workspaces import engine, hands, names, record
from service.workspaces.record import WorkspaceBusy
from service.workspaces.work import Plan, Told, Work

CUT_OFF_SECONDS: Final = 900.0  # a task that is tried again comes sooner
FRESH_SECONDS: Final = 3600.0  # after a use its work and its disk are looked at anew
WHAT: Final = ("started", "resumed", "asleep", "awake", "stopped", "expired", "failed")
MAY_EXPIRE: Final = (record.READY, record.STOPPED, record.ASLEEP, record.FAILED)


def reconcile(plan: Plan, told: Told) -> dict[str, Any]:
    done: dict[str, list[str]] = {name: [] for name in WHAT}
    known = plan.shelf.all()
    woken = bool(known) and _wake(plan, told)
    for found in known:
        try:
            with plan.shelf.lock(found.slug):
                fresh = plan.shelf.read(found.slug)
                if fresh is not None and (what := _one(Work(plan, fresh, told), woken)):
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


def _wake(plan: Plan, told: Told) -> bool:
    """Without a circusd, nobody who sleeps is woken by a request. Was it started now?"""
    try:
        return plan.hands.wake()
    except Exception as error:
        told.log(f"the web processes: {error or type(error).__name__}")
        return False


def _one(work: Work, woken: bool) -> str:
    """`woken`: what runs has been started just now."""
    found = work.record
    now = time.time()
    if _is_cut_off(found, now):
        if found.state == record.DELETING:
            engine.remove(work, force=True, keep_branch=False)
        else:
            engine.build(work)
        return "resumed"
    if found.state == record.ASLEEP and (what := _sleeper(work)):
        return what
    if found.state not in MAY_EXPIRE:
        return ""
    last_used = _last_used(work)
    if _expires(work, last_used, now):
        return "expired"
    if found.state == record.FAILED:
        return _rested(work, now)
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
    if woken or not work.hands.status(work.slug).pid:
        work.hands.start(work.slug, found.port or 0)
        return "started"
    return ""


def _is_cut_off(found: record.Workspace, now: float) -> bool:
    if found.state == record.REQUESTED:
        return record.is_forgotten(found, now)
    return found.state in (record.CREATING, record.DELETING) and _age(found.changed_at, now) > CUT_OFF_SECONDS


def _sleeper(work: Work) -> str:
    """Somebody may have woken it; or what wakes it is gone, as after a restore from a backup."""
    service = work.hands.status(work.slug)
    if service.pid:
        _becomes(work, record.READY)
        return "awake"
    if service.state == hands.STOPPED:
        work.hands.sleep(work.slug, work.record.port or 0)
        return "asleep"
    return ""


def _rested(work: Work, now: float) -> str:
    """What has failed may crash again and again; what somebody uses all the same goes on."""
    if work.hands.status(work.slug).state == hands.STOPPED or _age(work.record.changed_at, now) < FRESH_SECONDS:
        return ""
    if now - (work.hands.last_used(work.slug) or 0.0) < FRESH_SECONDS:
        return ""
    work.hands.stop(work.slug)
    return "stopped"


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
    except hands.HandsFailed as error:
        told.log(f"folders that are nobody's are not looked for: {error}")
        return []


def _listed(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []
