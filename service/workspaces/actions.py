"""The task types that act on workspaces: one action on a workspace at a time, by its lock.

A person's mistake, or a project's, fails the task at once: to try again would not help. Where a runner stopped or was
killed, the next attempt goes on.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Literal

from service import Context, Reject, Retry, task
from service.errors import Interrupted, SandboxError, Stopping
from service.tasks import moments
from service.tasks.declare import TaskType, marked_type
from service.workspaces import engine, hands, record, statuses
from service.workspaces.mirror import GitFailed
from service.workspaces.reconcile import reconcile
from service.workspaces.record import DONE, INTENT, UnknownWorkspace, Workspace, WorkspaceBusy
from service.workspaces.steps import interpreter
from service.workspaces.steps.contents import Env, Prepare
from service.workspaces.steps.serving import Health
from service.workspaces.steps.sources import FetchMirror
from service.workspaces.work import Plan, StepFailed, Work, last_lines

QUEUE: Final = "workspaces"
ATTEMPTS: Final = 40
LATER_SECONDS: Final = 5.0  # more with each attempt: the last is after 65 minutes, and so after LONGEST_SECONDS
KNOWN_UPDATES: Final = 8
LOOKS: Final = "*/5 * * * *"
LONGEST_SECONDS: Final = 3600.0
TEST_SECONDS: Final = 1800.0
GIT_SECONDS: Final = 300.0
SHOWN_UNPUSHED: Final = 20
IN_THE_WAY: Final = (FileExistsError, IsADirectoryError, NotADirectoryError)  # a full disk passes
RESTING: Final = (record.STOPPED, record.ASLEEP)
STARTABLE: Final = (record.READY, *RESTING, record.FAILED)

Result = dict[str, Any]


def types(plan: Plan) -> list[TaskType]:
    declared = task_of(plan)
    return [found for each in declared if (found := marked_type(each))]


def task_of(plan: Plan) -> list[Callable[..., Any]]:
    def action(name: str, **more: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        return task(f"workspace.{name}", queue=QUEUE, max_attempts=ATTEMPTS, timeout=LONGEST_SECONDS, **more)

    @action("create")
    def create(context: Context, email: str, take_over: bool = False) -> Result:
        """Makes a person's workspace, or goes on where that was cut off. `take_over`: a branch of that name, too."""
        with _telling(context), _at_work(plan, context, _asked(plan, email).slug, take_over=take_over) as work:
            if work.record.state in (record.DELETING, record.DELETE_FAILED):
                raise Reject(f"{work.slug} is being deleted: wait for its end, or delete it again")
            if work.record.state not in (record.STOPPED, record.ASLEEP):
                engine.build(work)
            return _shown(work.record)

    @action("delete")
    def delete(context: Context, slug: str, force: bool = False, branch: Literal["ours", "keep"] = "ours") -> Result:
        """Takes a workspace away; refuses to lose work, unless forced. The branch goes while it is as we pushed it."""
        with _at_work(plan, context, slug, tombstones=True) as work:
            if work.record.exists:
                engine.remove(work, force=force, keep_branch=branch == "keep")
            return _shown(work.record)

    @action("start")
    def start(context: Context, slug: str) -> Result:
        """Starts its web process, or wakes it."""
        with _at_work(plan, context, slug) as work:
            _begin(work)
            return _served(work)

    @action("stop")
    def stop(context: Context, slug: str) -> Result:
        """Stops its web process until it is started again."""
        with _at_work(plan, context, slug) as work:
            _refuse_unbuilt(work)
            work.hands.stop(slug)
            work.record.state, work.record.error = record.STOPPED, None
            _end(work)
            return _shown(work.record)

    @action("restart")
    def restart(context: Context, slug: str) -> Result:
        """Restarts its web process; connections wait meanwhile."""
        with _at_work(plan, context, slug) as work:
            _restart(work)
            return _served(work)

    @action("update")
    def update(context: Context, slug: str) -> Result:
        """Fast-forwards the code to its branch at the origin, with requirements and migrations; or touches nothing."""
        with _at_work(plan, context, slug) as work, _known_to_end(work):
            _refuse_unbuilt(work)
            before = work.facts.sha
            work.told.progress(message=FetchMirror.name)
            work.mirror.fetch(work.told)
            was_cut_off = _mark_following(work, INTENT)
            ended = work.attempt(hands.GIT_FORWARD, work.record.branch, seconds=GIT_SECONDS)
            if not was_cut_off and work.look_again().sha == before:
                _mark_following(work, DONE)
            if ended.status:
                raise Reject(f"{work.record.branch} cannot be fast-forwarded: {last_lines(ended.output)}")
            if work.record.steps.get(Prepare.name) == DONE and work.record.state != record.FAILED:
                _end(work)
                return _shown(work.record) | {"from": before, "to": before}
            _follow_the_code(work)
            shown = _served_anew(work)
            if work.record.state == record.READY:
                interpreter.prune(work)
            return shown | {"from": before, "to": work.facts.sha}

    @action("rebuild")
    def rebuild(context: Context, slug: str, python: str | None = None) -> Result:
        """Builds another virtualenv beside the one in use, of another Python too; switches to it, or back."""
        if python is not None and python not in plan.pythons:
            raise Reject(f"there is no {python!r} here; there are {', '.join(plan.pythons)}")
        with _at_work(plan, context, slug) as work:
            _refuse_unbuilt(work)
            old = _proven(work)
            work.told.progress(message=interpreter.Venv.name)
            try:
                interpreter.switch(work, interpreter.build(work, python or interpreter.in_use(work)))
                shown = _served_anew(work)
            except SandboxError as error:
                if work.look_again().venv == old:
                    interpreter.prune(work)
                    raise
                interpreter.switch(work, old)
                _served_anew(work)
                interpreter.prune(work)
                raise Reject(f"the new virtualenv does not serve; the old one is back in use: {error}") from error
            interpreter.prune(work)
            return shown

    @action("test")
    def test(context: Context, slug: str, after: str | None = None) -> Result:
        """Runs the project's tests: `test:` of its Procfile, else Django's, else pytest. `after`: that update's end."""
        with _at_work(plan, context, slug) as work:
            _refuse_unbuilt(work)
            if after not in (None, *work.record.updates):
                raise _later(context, f"the update {after} has not ended yet")
            with _told_to_the_forge(work) as verdict:
                ended = work.attempt(hands.TEST, seconds=TEST_SECONDS)
                verdict.append(ended.status)
            work.record.test = {
                "passed": ended.status == 0,
                "status": ended.status,
                "sha": work.facts.sha,
                "at": moments.stamp(time.time()),
                "task": context.uid,
            }
            _end(work)
            return dict(work.record.test)

    @action("access")
    def access(context: Context, slug: str, login: str) -> Result:
        """Gives a login of this host access to its files."""
        with _at_work(plan, context, slug) as work:
            work.hands.grant(slug, login)
            if login not in work.record.logins:
                work.record.logins.append(login)
            _end(work)
            return _shown(work.record)

    @action("reconcile", schedule=LOOKS)
    def look_after_all(context: Context) -> Result:
        """Starts what is missing, goes on with what was cut off, lets the idle sleep, and reports what is nobody's."""
        return reconcile(plan, context)

    return [create, delete, start, stop, restart, update, rebuild, test, access, look_after_all]


@contextmanager
def _at_work(
    plan: Plan, context: Context, slug: str, *, take_over: bool = False, tombstones: bool = False
) -> Iterator[Work]:
    """Alone with the workspace."""
    with _telling(context), plan.shelf.lock(slug, record.MOMENT_SECONDS):
        found = plan.shelf.read(slug)
        if found is None or not (found.exists or tombstones):
            raise UnknownWorkspace(f"there is no workspace {slug!r}")
        found.task = context.uid
        work = Work(plan, found, context, take_over=take_over)
        work.hands.end_steps(slug)  # of an action that was killed
        yield work


def _asked(plan: Plan, email: str) -> Workspace:
    try:
        asked, _ = plan.shelf.request(email, most=plan.most, most_building=plan.most_building)
    except record.TooManyWorkspaces as error:
        if error.retry_after is None:
            raise
        raise Retry(str(error), after=error.retry_after) from error
    return asked


@contextmanager
def _told_to_the_forge(work: Work) -> Iterator[list[int]]:
    """The commit's tests are under way; then how they ended, by the status that is put into the list.

    If a runner stops, they stay under way: the next attempt tells.
    """
    tell = partial(
        work.plan.statuses.tell, work.told, sha=_commit_to_tell_of(work), branch=work.record.branch, task=work.told.uid
    )
    ended: list[int] = []
    tell(statuses.PENDING, text="the tests run")
    try:
        yield ended
    except Stopping:
        raise
    except (Exception, Interrupted) as error:
        tell(statuses.ERROR, text="the tests did not come to their end", is_last_word=isinstance(error, Interrupted))
        raise
    if ended == [0]:
        tell(statuses.SUCCESS, text="the tests have passed")
    else:
        tell(statuses.FAILURE, text="the tests have failed")


def _commit_to_tell_of(work: Work) -> str:
    """None but the tip of its own branch: the clone's HEAD, which is the person's, may name any commit."""
    if not work.plan.statuses.url:
        return ""
    try:
        tip = work.mirror.tip(work.told, work.record.branch)
    except GitFailed as error:
        work.told.log(f"no commit status is sent: {error}")
        return ""
    if work.facts.sha == tip:
        return tip
    work.told.log("no commit status is sent: the clone is not at the tip of its branch at the origin")
    return ""


@contextmanager
def _telling(context: Context) -> Iterator[None]:
    """What goes wrong, in the task: to try again helps only where somebody else is at work."""
    try:
        yield
    except WorkspaceBusy as error:
        raise _later(context, str(error)) from error
    except (Reject, Retry):
        raise
    except (SandboxError, subprocess.SubprocessError, *IN_THE_WAY) as error:
        raise Reject(str(error)) from error


def _later(context: Context, why: str) -> Retry:
    return Retry(why, after=LATER_SECONDS * context.attempt)


@contextmanager
def _known_to_end(work: Work) -> Iterator[None]:
    """Whoever waits for this update learns that it has ended, well or not. If a runner stops, it has not."""
    try:
        yield
    except Stopping:
        raise
    except (Exception, Interrupted):
        _note_end(work)
        raise
    _note_end(work)


def _note_end(work: Work) -> None:
    work.record.updates = [work.told.uid, *work.record.updates][:KNOWN_UPDATES]
    work.save()


def _begin(work: Work) -> None:
    _refuse_unbuilt(work)
    if work.record.steps.get(Env.name) != DONE:
        Env().apply(work)
    work.hands.start(work.slug, work.record.port or 0)


def _restart(work: Work) -> None:
    _refuse_unbuilt(work)
    if work.hands.status(work.slug).pid:
        work.hands.restart(work.slug)
    if not work.hands.status(work.slug).pid:  # what a request has woken goes back to sleep
        _begin(work)


def _refuse_unbuilt(work: Work) -> None:
    """The creation alone gives it an address, after all that it needs."""
    if work.record.state not in STARTABLE or not work.record.address or not work.facts.venv:
        raise StepFailed(f"{work.slug} is {work.record.state}, and not built to its end: resume or delete it")


def _mark_following(work: Work, mark: str) -> bool:
    """Written down before the code changes. Had an earlier update been cut off?"""
    was_cut_off = work.record.steps.get(Prepare.name) != DONE
    for step in (Prepare.name, Env.name):
        work.record.steps[step] = mark
    work.save()
    return was_cut_off


def _follow_the_code(work: Work) -> None:
    """Requirements, settings, migrations, static files."""
    venv = interpreter.Venv()
    work.told.progress(message=venv.name)
    if not venv.check(work):
        venv.apply(work)
    for each in (Env(), Prepare()):
        work.told.progress(message=each.name)
        each.apply(work)
    _mark_following(work, DONE)


def _proven(work: Work) -> int:
    """The virtualenv that has served: the one in use, unless a rebuild was cut off that had switched to another."""
    if work.record.proven_venv not in work.facts.venvs:
        work.record.proven_venv = work.facts.venv
        work.record.pythons[str(work.facts.venv)] = interpreter.in_use(work)
        work.save()
    return work.record.proven_venv


def _served(work: Work) -> Result:
    """It answers; or the record says why not."""
    work.told.progress(message=Health.name)
    with engine.failing_as(work, record.FAILED):
        Health().apply(work)
    work.record.state, work.record.error, work.record.step = record.READY, None, None
    work.record.proven_venv = 0
    work.record.note_use(time.time(), work.plan.expire_days)
    _end(work)
    return _shown(work.record)


def _served_anew(work: Work) -> Result:
    """By a new process. What is stopped or asleep stays so; what a request has just woken runs, whatever is known."""
    if work.record.state in RESTING and not work.hands.status(work.slug).pid:
        _end(work)
        return _shown(work.record)
    _restart(work)
    return _served(work)


def _end(work: Work) -> None:
    engine.measure(work)
    work.save()


def _shown(found: Workspace) -> Result:
    return {
        "slug": found.slug,
        "email": found.email,
        "state": found.state,
        "address": found.address,
        "branch": found.branch,
        "sha": found.base_sha,
        "python": found.python,
        "unpushed": found.unpushed[:SHOWN_UNPUSHED],
    }
