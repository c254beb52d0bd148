"""Makes a workspace step by step, and takes it away backwards.

What is about to be done is written down before it is done. Whoever comes after a crash looks at what is there, and
goes on at the first step that is not. The caller holds the workspace's lock.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from service.errors import Interrupted, SandboxError, Stopping
from service.workspaces import hands, record
from service.workspaces.recipes import PREFIXES
from service.workspaces.record import DONE, INTENT, UNDONE
from service.workspaces.steps.sequence import SEQUENCE
from service.workspaces.steps.serving import Health, WebProcess
from service.workspaces.steps.step import BuildStep
from service.workspaces.work import StepFailed, Work

STATUS_SECONDS = 120.0
BACKWARDS: Final = SEQUENCE[::-1]
KEPT_UNPUSHED: Final = 50  # lines, of so many characters: a record is read for each list
KEPT_CHARACTERS: Final = 200


class UnsavedWork(SandboxError):
    """A deletion would lose work; the message lists it."""


def build(work: Work) -> None:
    work.hands.end_steps(work.slug)
    work.record.state, work.record.error, work.record.task = record.CREATING, None, work.told.uid
    work.record.note_use(time.time(), work.plan.expire_days)
    try:
        with failing_as(work, record.FAILED):
            for done, step in enumerate(SEQUENCE):
                _forward(work, step, done / len(SEQUENCE))
            _refuse_too_much(work)
            work.record.state, work.record.step, work.record.proven_venv = record.READY, None, 0
    except Exception:
        if work.record.step in (WebProcess.name, Health.name):  # it would be started again and again
            with suppress(SandboxError, OSError):
                work.hands.stop(work.slug)
        raise
    measure(work)
    work.save()


def _forward(work: Work, step: BuildStep, fraction: float) -> None:
    steps = work.record.steps
    if steps.get(step.name) != INTENT and step.check(work):
        steps[step.name] = DONE
        return
    work.record.step = step.name
    steps[step.name] = INTENT
    work.save()
    work.told.progress(fraction, step.name)
    work.told.log(f"— {step.name}")
    if not (step.check(work)):
        step.apply(work)
        work.look_again()
        step.verify(work)
    steps[step.name] = DONE
    work.save()


def remove(work: Work, *, force: bool, keep_branch: bool) -> None:
    """Raises UnsavedWork before anything is touched. What cannot be undone does not keep the rest."""
    work.hands.end_steps(work.slug)
    if not force and work.record.state != record.DELETING:
        refuse_to_lose(work)
    work.record.state, work.record.error, work.record.task = record.DELETING, None, work.told.uid
    if keep_branch:
        work.record.pushed_sha = None
    work.save()
    with failing_as(work, record.DELETE_FAILED):
        with suppress(SandboxError, OSError):  # the step says what is wrong with it
            work.hands.unlink_media(work.slug)
        problems = [problem for done in range(len(BACKWARDS)) for problem in _backward(work, done)]
        problems += [f"there is still {thing}" for thing in work.hands.left(work.slug)]
        if problems:
            raise StepFailed("; ".join(problems))
        work.record.state, work.record.step, work.record.unpushed = record.DELETED, None, []
        work.record.disk_mb = work.record.test = None
    work.record.task = None
    work.save()


def _backward(work: Work, done: int) -> Iterator[str]:
    step = BACKWARDS[done]
    work.record.step = step.name
    work.save()
    work.told.progress(done / len(BACKWARDS), step.name)
    work.told.log(f"— {step.name} goes")
    try:
        step.undo(work)
        work.record.steps[step.name] = UNDONE
    except (SandboxError, OSError, ValueError) as error:
        yield f"{step.name}: {error}"
    work.save()


def refuse_to_lose(work: Work) -> None:
    try:
        work.record.unpushed = unpushed(work)
    except (StepFailed, hands.HandsFailed) as error:
        raise UnsavedWork(
            f"whether {work.slug} has work that is nowhere else cannot be seen; mend that, or delete with force:\n"
            f"{error}"
        ) from error
    if work.record.unpushed:
        work.save()
        shown = "\n".join(work.record.unpushed[:20])
        raise UnsavedWork(f"{work.slug} has work that is nowhere else; push it, or delete with force:\n{shown}")


def unpushed(work: Work) -> list[str]:
    """Uncommitted, unpushed and stashed. What is no clone any more, or a broken one, fails."""
    if not (work.facts.code or work.facts.sha or work.facts.branch):
        return []
    ended = work.run(hands.GIT_STATUS, seconds=STATUS_SECONDS)
    found = [_cut(line) for line in ended.output.splitlines() if line.startswith(PREFIXES)]
    return found if len(found) <= KEPT_UNPUSHED else [*found[:KEPT_UNPUSHED], "and more"]


def _cut(line: str) -> str:
    return line if len(line) <= KEPT_CHARACTERS else f"{line[: KEPT_CHARACTERS - 1]}…"


def measure(work: Work) -> None:
    """For the page. It is no failure if it cannot be seen."""
    work.record.task = None
    try:
        work.record.unpushed = unpushed(work)
        work.record.disk_mb = work.hands.disk_mb(work.slug)
    except SandboxError as error:
        work.told.log(str(error))


def _refuse_too_much(work: Work) -> None:
    used = work.hands.disk_mb(work.slug)
    if used > work.plan.disk_mb:
        raise StepFailed(f"it takes {used} MB of the disk; {work.plan.disk_mb} are allowed")


@contextmanager
def failing_as(work: Work, state: str) -> Iterator[None]:
    """A runner that stops goes on later, elsewhere: then nothing has failed."""
    try:
        yield
    except Stopping:
        raise
    except (Exception, Interrupted) as error:
        work.record.state, work.record.error, work.record.task = state, str(error) or type(error).__name__, None
        work.save()
        raise
