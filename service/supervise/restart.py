"""`sandbox restart`: circusd takes over from itself with new settings, a new circus.ini and new code.

Nobody is refused:

1. The command checks everything as a start does, writes down what circusd is to become, and asks it to (`takeover`).
2. circusd becomes that program (start/handover.py). Its processes go on serving, as children of the same process.
3. The new circusd adopts the embedded Redis, the web and the runners. It ends the others, and starts them anew.
4. What it would start is put on trial beside the runners and the web that serve, as at a reload. When all are ready
   they begin, and the old ones are told to stop: web processes answer what they have, runners finish their tasks.
5. If the trial goes wrong, circusd becomes the program that it was, in the same way, and adopts what serves.

If the embedded Redis would be another one (a new version, another SANDBOX_FSYNC or SANDBOX_LOGS, REDIS_URL set or
removed), nothing is adopted: everything is ended in order and started anew, and connections wait at the listening
socket meanwhile. If the web never comes up, circusd becomes what it was, and starts everything anew once more.

Where circusd dies on the way, its processes go on serving, and the next start takes over (start/orphans.py).
"""

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from circus import logger
from circus.commands.base import Command
from circus.exc import MessageError
from tornado import gen

from service import settings
from service.embedded import valkey
from service.observe import output
from service.settings import Settings
from service.supervise.reload import candidate
from service.supervise.start import handover, listener, orphans, state
from service.supervise.start.handover import Handover, Program
from service.supervise.watcher import GatedWatcher, ReleaseRefused

ANSWER_SECONDS: Final = 0.1  # for the answer to get out
LOOK_SECONDS: Final = 0.05
LEAST_SECONDS: Final = 60.0  # nothing of this start is warm, and there is no trial that could be made again
LOOKING: Final = "manage_watchers"  # what circusd does each second
REDIS: Final = "redis"


class Takeover(Command):  # type: ignore[misc]
    """\
    Becomes the program that `sandbox restart` has written down
    """

    name = "takeover"
    properties = ("name",)
    program: Program  # what this circusd is
    _is_under_way = False

    def execute(self, arbiter: Any, props: dict[str, Any]) -> None:
        if problem := _in_the_way(arbiter):
            raise MessageError(problem)
        if Takeover._is_under_way:
            raise MessageError("another restart is under way; wait for its outcome")
        folder = GatedWatcher.folder / handover.FOLDER / Path(props["name"]).name
        try:
            program = handover.read(folder, Program).with_command(self.program.command)
        except (OSError, ValueError, TypeError) as error:
            raise MessageError(f"what it is to become cannot be read: {error}") from error
        Takeover._is_under_way = True
        arbiter.loop.spawn_callback(self._leave, arbiter, folder, program)

    async def _leave(self, arbiter: Any, folder: Path, program: Program) -> None:
        await gen.sleep(ANSWER_SECONDS)
        try:
            problem = await _become(arbiter, folder, program, self.program)
        except Exception as error:
            problem = _fault(error)
        handover.tell(problem, folder)
        Takeover._is_under_way = False


def _in_the_way(arbiter: Any) -> str | None:
    if arbiter._stopping or arbiter.ctrl.told_to_quit:
        return handover.STOPPING
    if any(watcher.is_swapping for watcher in arbiter.watchers):
        return "a reload or another restart is under way; wait for its outcome"
    if arbiter._exclusive_running_command not in (None, LOOKING):
        return f"circusd carries out {arbiter._exclusive_running_command}; try again when that is done"
    return None


async def _become(arbiter: Any, folder: Path, program: Program, before: Program | None, refused: str = "") -> str:
    """Returns only if that is not possible: why."""
    while arbiter._exclusive_running_command == LOOKING:
        await gen.sleep(LOOK_SECONDS)
    for watcher in arbiter.watchers:
        watcher.settle_down()
    problem = _in_the_way(arbiter) or ""
    if not problem:
        given = Handover(
            pid=os.getpid(),
            lock=state.descriptor(GatedWatcher.folder / "lock"),
            sockets=[*(socket.fileno() for socket in arbiter.sockets.values()), *listener.held()],
            serving={watcher.name: list(watcher.processes) for watcher in arbiter.watchers},
            leaving={watcher.name: watcher.leaving for watcher in arbiter.watchers},
            releases={watcher.name: str(watcher.release) for watcher in arbiter.watchers if watcher.release},
            before=before.__dict__ if before else {},
            refused=refused,
        )
        logger.info("circusd becomes %s", " ".join([*program.words, *program.command]))
        try:
            handover.become(program, folder, given, unless=lambda: bool(arbiter.ctrl.told_to_quit))
            problem = handover.STOPPING
        except (OSError, ValueError, TypeError) as error:
            problem = f"{program.words[0]} cannot be started: {error}"
    logger.error("circusd stays what it is: %s", problem)
    return problem


def begin(arbiter: Any) -> None:
    """In the new circusd, before it starts anything."""
    arbiter.ctrl.told_to_quit = False
    if (given := handover.received) is None:
        return
    handover.received = None  # `circusctl restart` comes here, too
    read = settings.read(os.environ)
    stays: set[int] = set()
    if _redis_stays(read, given.serving.get(REDIS, [])):
        for watcher in arbiter.iter_watchers():
            if watcher.release is not None or watcher.name == REDIS:
                stays |= watcher.adopt(
                    given.serving.get(watcher.name, []),
                    given.leaving.get(watcher.name, []),
                    given.releases.get(watcher.name),
                )
    else:
        (GatedWatcher.folder / candidate.SERVED).unlink(missing_ok=True)
        GatedWatcher.goes_back = bool(given.before)
        output.say("sandbox: the embedded Redis is to be another one; everything is started anew, in order")
    orphans.end(read.home, orphans.find(read.home, but=stays), but=stays)
    handover.release_signals()
    arbiter.loop.spawn_callback(_finish, arbiter, given)


def _redis_stays(read: Settings, pids: list[int]) -> bool:
    if not read.embedded_redis:
        return not pids
    words = valkey.command(read.sockets / "redis.sock", state.redis_folder(read), read.fsync, read.logs / "redis.log")
    return len(pids) == 1 and valkey.is_running(pids[0], words)


async def _finish(arbiter: Any, given: Handover) -> None:
    """Whatever happens, whoever waits for the outcome is told one."""
    try:
        problem = await _outcome(arbiter, given)
    except Exception as error:
        problem = _fault(error)
    listener.let_go()
    GatedWatcher.goes_back = False
    for watcher in arbiter.watchers:
        watcher.settle_down()
    handover.tell(problem)
    if not problem:
        output.say("sandbox has been restarted")


async def _outcome(arbiter: Any, given: Handover) -> str:
    while arbiter._exclusive_running_command is not None:
        await gen.sleep(LOOK_SECONDS)
    gated = [watcher for watcher in arbiter.iter_watchers() if watcher.release and watcher.has_adopted]
    problem = given.refused or await _replace(gated) or await _never_came_up(arbiter)
    if problem and given.before and not arbiter._stopping:
        hindered = await _go_back(arbiter, given.before, problem)
        problem = f"{problem}\n{handover.STAYS}, because {hindered}. Restart it again."
    if given.refused and not given.before:
        await _never_came_up(arbiter)
    if arbiter._stopping:
        return handover.STOPPING
    if GatedWatcher.has_given_up:
        os.kill(os.getpid(), signal.SIGTERM)
        return f"{handover.STOPPING}: {problem}"
    return problem


async def _never_came_up(arbiter: Any) -> str:
    """Where nothing was adopted, everything is only starting now. Returns why it will not, if circusd can go back."""
    patience = max(GatedWatcher.patience_seconds, LEAST_SECONDS) + candidate.REDIS_SECONDS
    until = time.monotonic() + patience
    while not arbiter._stopping and not (GatedWatcher.folder / candidate.SERVED).exists():
        if GatedWatcher.goes_back and not GatedWatcher.has_given_up and time.monotonic() >= until:
            GatedWatcher.has_given_up = True
            GatedWatcher.reason = f"no web worker has come up within {patience:g} s"
        if GatedWatcher.has_given_up and GatedWatcher.goes_back:
            where = "log/web.log or log/web.out says why"
            return f"{GatedWatcher.reason}; {where}. Everything was started anew with the former settings."
        await gen.sleep(LOOK_SECONDS)
    return ""


async def _go_back(arbiter: Any, before: dict[str, Any], refused: str) -> str:
    """Returns only if that is not possible: why."""
    try:
        return await _become(arbiter, handover.folder(), Program.from_dict(before), None, refused)
    except Exception as error:
        return _fault(error)


def _fault(error: Exception) -> str:
    logger.error("the restart has failed", exc_info=error)
    return f"it has failed: {error!r}. circus.log says where"


async def _replace(watchers: list[GatedWatcher]) -> str:
    """Returns what is wrong: then nothing is replaced."""
    try:
        async with AsyncExitStack() as trials:
            for watcher in watchers:
                await trials.enter_async_context(watcher.on_trial(watcher.candidate(), watcher.wanted))
    except ReleaseRefused as error:
        return error.whole
    except Exception as error:
        return _fault(error)
    await asyncio.gather(*(watcher.only_new_ones_answer() for watcher in watchers))
    return ""
