"""A watcher of circus whose reload is a trial, and which waits before it replaces what crashes again and again.

A watcher with the option `release` in circus.ini runs the release that this names. It keeps the real path: whatever
is started later (a crashed process, one more) is of the release that was accepted last. A reload starts the release
that the name leads to now, beside the running one. Only when all of it is ready, the old processes are told to stop.

`processes`, which circus counts, replaces and stops, has those that serve: processes on trial join it when they are
accepted, and old ones leave it at the same moment. A reload of the web is over when its old processes have ended:
until then they may answer a client.

A watcher without that option (the embedded Redis) has no reload.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, Final

import psutil
from circus import logger
from circus.process import DEAD_OR_ZOMBIE, UNEXISTING, Process
from circus.util import replace_gnu_args
from circus.watcher import Watcher
from psutil import NoSuchProcess
from tornado import gen

from service.errors import SandboxError
from service.observe import marks
from service.supervise.reload import candidate
from service.supervise.reload import release as releases
from service.supervise.reload.release import NoRelease, Release
from service.supervise.reload.trial import COMMAND, Trial, end_group, ending
from service.supervise.throttle import OLD_SECONDS, Throttle

LOOK_SECONDS: Final = 0.05
OVERLAP_SECONDS: Final = 1.0
DEATHS_A_PROCESS: Final = 2
DEATHS_AT_LEAST: Final = 3
FIRST_STARTS: Final = 3


class ReleaseRefused(SandboxError):
    """A release was not accepted; nothing has changed."""

    def __init__(self, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.details = details or {}

    @property
    def whole(self) -> str:
        """With what the release has printed."""
        return "\n".join(filter(None, (str(self), self.details.get("traceback"))))


class AgingProcess(Process):  # type: ignore[misc]
    """Its age is monotonic. Stock circus takes the time of day, which may be put back: then every death is early."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._born = time.monotonic()

    def age(self) -> float:
        return time.monotonic() - self._born

    def adopt(self, child: "Adopted") -> "AgingProcess":
        self._worker = child
        self.started = child.create_time()
        self._born -= max(0.0, time.time() - self.started)
        return self


class Adopted(psutil.Process):  # type: ignore[misc]
    """A child that was started before this process became another program; circus asks it what it asks a Popen."""

    stdout = stderr = None
    returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self.returncode = 0  # somebody else has its code; so says Popen
            else:
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


class GatedWatcher(Watcher):  # type: ignore[misc]
    processes: dict[int, Process]
    numprocesses: int
    folder: Path
    patience_seconds: float
    has_given_up = False
    reason = ""  # why it has
    goes_back = False  # a restart then has circusd become what it was

    def __init__(self, name: str, cmd: str, **options: Any) -> None:
        number = int(options.get("numprocesses", 1))
        super().__init__(name, cmd, **options | {"numprocesses": max(1, number)})  # stock circus warns of none
        self.numprocesses = number
        self._name = Path(options["release"]) if "release" in options else None
        self.release = releases.find(self._name) if self._name else None
        self._trial: Trial | None = None
        self._starting: Trial | None = None
        self._leaving: dict[int, asyncio.Task[None]] = {}
        self._spawning = asyncio.Lock()
        self._throttle = Throttle(self._deaths_allowed)
        self._failed_starts = 0
        self._is_swapping = False
        self._is_to_be_tried_again = False
        self.wanted = self.numprocesses
        self.has_adopted = False

    # --- processes ---------------------------------------------------------------------------------

    @property
    def _process_class(self) -> Any:
        return self._process

    def _process(self, name: str, wid: int, cmd: str, **options: Any) -> Process:
        on_trial = self._starting
        release = on_trial.release if on_trial else self.release
        if release is not None:
            cmd = (COMMAND if on_trial else "") + replace_gnu_args(cmd, release=release.words)
            options["working_dir"] = str(release)
            options["env"] = release.environment(options["env"], self.working_dir)
            options["env"] |= on_trial.environment if on_trial else {}
        return AgingProcess(name, wid, cmd, **options)

    def adopt(self, serving: Iterable[int], leaving: Iterable[int], release: str | None) -> set[int]:
        """Processes that circusd started before a restart, and those that it had told to stop. Returns which live.

        They are of this release, and so is what replaces one that dies, until the trial has accepted another.
        """
        living = [pid for pid in (*serving, *leaving) if psutil.pid_exists(pid)]
        self.numprocesses = self.numprocesses or len(living)  # with none wanted, circus would number none
        adopted = {pid: self._adopted(pid) for pid in living}
        self.processes.update(adopted)
        for pid in adopted.keys() & set(leaving):
            self._let_go(adopted[pid])
        self.has_adopted = bool(self.processes)
        # until the trial: nothing is to be started beside it
        self.numprocesses = len(self.processes) if self.has_adopted else self.wanted
        if self.has_adopted and release:
            with contextlib.suppress(NoRelease):  # somebody has removed it meanwhile
                self.release = releases.find(Path(release))
        return set(adopted)

    def _adopted(self, pid: int) -> AgingProcess:
        return AgingProcess(self.name, self._nextwid, self.cmd, watcher=self, spawn=False).adopt(Adopted(pid))

    def settle_down(self) -> None:
        """The restart is over. One that was refused takes away no process that was added by hand."""
        if self.has_adopted:
            self.numprocesses = max(self.wanted, len(self.processes))
            self.has_adopted = False

    @property
    def leaving(self) -> list[int]:
        return list(self._leaving)

    async def spawn_processes(self) -> None:
        """One call at a time: a second one that runs beside it would start the same missing processes again."""
        async with self._spawning:
            await super().spawn_processes()

    def spawn_process(self, recovery_wid: int | None = None) -> Any:
        """A program that cannot be started counts as crashed; stock circus would never try it again.

        circus would sleep for as long as the clock has been put back since a time that it is given: it is given none.
        """
        if self.is_stopping():
            return True
        started = super().spawn_process(recovery_wid)
        if started is False and self._starting is None:
            self._note_death(0.0)
            self._is_to_be_tried_again = True
            return True
        return started is not False

    async def _start(self) -> None:
        """Starts nothing while the service stops: a restart may be under way. What could not be started is tried again
        later; stock circus would leave it stopped.
        """
        if self.arbiter._stopping:
            return
        self._is_to_be_tried_again = False
        await super()._start()
        if self._is_to_be_tried_again and self.is_stopped() and not self.arbiter._stopping:
            self._status = "active"

    async def _stop(self, close_output_streams: bool = False) -> None:
        """A second call waits until the first has stopped it."""
        while self.is_stopping():
            await gen.sleep(LOOK_SECONDS)
        if self._trial is not None:
            self._trial.problem = f"{self.name} was stopped meanwhile"
            self._trial.end()
        try:
            await super()._stop(close_output_streams)
        except Exception as error:  # the others are to be stopped all the same, and circusd is to end
            logger.error("%s could not be stopped in order; what is left of it is killed", self.name, exc_info=error)
            for pid in list(self.processes):
                end_group(pid)
            self._status = "stopped"
        await gen.multi(list(self._leaving.values()))
        self._calm_down()

    # --- the gate ----------------------------------------------------------------------------------

    async def _reload(self, graceful: bool = True, sequential: bool = False) -> None:
        """What circus calls after `set`; the command `reload` and HUP come by service/supervise/reload_command.py."""
        if self._name is not None and self.is_active() and self._trial is None:
            self.loop.spawn_callback(self._swap_or_stay)

    async def _swap_or_stay(self) -> None:
        with contextlib.suppress(ReleaseRefused):
            await self.swap(self.candidate())

    def candidate(self) -> Release:
        if self._name is None:
            raise ReleaseRefused(f"{self.name} has no reload. `circusctl restart {self.name}` stops and starts it.")
        self._refuse_unless_serving()
        try:
            return releases.find(self._name)
        except NoRelease as error:
            raise self._refusal(str(error), self._name, 0.0, "") from error

    @property
    def is_serving(self) -> bool:
        return bool(self.is_active() and self.numprocesses)

    def _refuse_unless_serving(self) -> None:
        if not self.is_active():
            raise ReleaseRefused(
                f"{self.name} is {self.status()}. `circusctl start {self.name}` starts {self.release}."
            )
        if not self.numprocesses:
            raise ReleaseRefused(
                f"{self.name} has no processes; `circusctl incr {self.name}` starts one of {self.release}."
            )

    @property
    def is_swapping(self) -> bool:
        """Or is it about to, in a restart?"""
        return self._is_swapping or self.has_adopted

    async def swap(self, release: Release) -> dict[str, Any]:
        if self.has_adopted:
            raise ReleaseRefused("a restart is under way; wait for its outcome.")
        self._is_swapping = True
        try:
            async with self.on_trial(release, self.numprocesses) as outcome:
                pass
            await self.only_new_ones_answer()
        finally:
            self._is_swapping = False
        return outcome

    @contextlib.asynccontextmanager
    async def on_trial(self, release: Release, number: int) -> AsyncIterator[dict[str, Any]]:
        """So many processes of it are ready inside the block, and serve after it. An exception in it refuses them."""
        self._refuse_unless_serving()  # it may have been stopped while another watcher was on trial
        if self._trial is not None:
            since = f"{self._trial.seconds:.0f} s"
            raise ReleaseRefused(f"{self.name} is being reloaded, for {since} so far; wait for the outcome.")
        logger.info("%s: %s is on trial", self.name, release)
        trial = self._trial = Trial(release, self.folder / "trial", self.patience_seconds)
        outcome: dict[str, Any] = {}
        try:
            await self._judge(trial, number)
            yield outcome
            trial.accept()
        except BaseException:
            trial.end()
            for process in trial.processes:
                self._tell_end(process)
            raise
        finally:
            self._trial = None
        self.loop.spawn_callback(trial.hurry)
        if self.has_adopted:  # else somebody may have wished for another number meanwhile
            self.numprocesses = number
        outcome.update(self._swapped(trial))

    @property
    def on_trial_now(self) -> list[Process]:
        return self._trial.processes if self._trial else []

    async def only_new_ones_answer(self) -> None:
        if self.use_sockets:
            await gen.multi(list(self._leaving.values()))

    async def _judge(self, trial: Trial, number: int) -> None:
        if number == 0:
            return  # new settings want none of it
        for _ in range(number):
            if trial.problem is None:
                self._start_on_trial(trial)
                await gen.sleep(0)
        problem = await trial.verdict(lambda: bool(self.arbiter._stopping))
        if problem is not None:
            raise self._refusal(problem, trial.release.path, trial.seconds, trial.output)

    def _start_on_trial(self, trial: Trial) -> None:
        known = set(self.processes)
        self._starting = trial
        try:
            if self.spawn_process() is False:
                trial.problem = f"its program cannot be started: {trial.release.python}"
        finally:
            self._starting = None
        for pid in set(self.processes) - known:
            trial.add(self.processes.pop(pid))

    def _swapped(self, trial: Trial) -> dict[str, Any]:
        before = [process for process in self.processes.values() if not process.stopping]
        for process in before:
            self._let_go(process)
        self.processes |= {process.pid: process for process in trial.processes}
        self.release = trial.release
        self._calm_down()
        outcome = {
            "release": str(trial.release),
            "seconds": round(trial.seconds, 3),
            "started": sorted(process.pid for process in trial.processes),
            "stopping": sorted(process.pid for process in before),
        }
        logger.info("%s: %s serves, after %.1f s", self.name, trial.release, trial.seconds)
        self.notify_event("reloaded", outcome)
        marks.leave(self.folder, "reloaded", str(self.name), str(trial.release))
        return outcome

    def _refusal(self, reason: str, release: Path, seconds: float, output: str) -> ReleaseRefused:
        stays = self.is_active() and not self.arbiter._stopping and not self.has_adopted
        if stays and self.release is not None and release == self.release.path:
            reason += ". It lies where the running one was started from: what crashes now is replaced by it"
        logger.error("%s: %s is refused: %s\n%s", self.name, release, reason, output)
        details = {"reason": reason, "release": str(release), "seconds": round(seconds, 3), "traceback": output}
        self.notify_event("reload_refused", details)
        marks.leave(self.folder, "refused", str(self.name), str(release))
        return ReleaseRefused(f"{self.name}: {release} is refused: {reason}.", details)

    def _let_go(self, process: Process) -> None:
        del self.processes[process.pid]
        leaving = asyncio.ensure_future(self._end(process))
        self._leaving[process.pid] = leaving
        leaving.add_done_callback(lambda _: self._leaving.pop(process.pid, None))

    async def _end(self, process: Process) -> None:
        """Stops a process that has left `processes`. It goes on for a moment beside those that begin now."""
        await gen.sleep(OVERLAP_SECONDS)
        until = time.monotonic() + self.graceful_timeout
        try:
            process.send_signal(self.stop_signal)
            self.notify_event("kill", {"process_pid": process.pid, "time": time.time()})
        except NoSuchProcess:
            pass
        while process.is_alive() and time.monotonic() < until:
            await gen.sleep(LOOK_SECONDS)
        self.end_leftovers(process.pid)
        process.stop()
        self._tell_end(process)

    def end_leftovers(self, pid: int) -> None:
        """Kills what is left of a process that was told to end, and what it has started: by the hook, as where it dies
        by itself.
        """
        self.call_hook("before_reap", process_pid=pid, time=time.time())
        end_group(pid)

    def _tell_end(self, process: Process) -> None:
        self.notify_event("reap", {"process_pid": process.pid, "time": time.time(), "exit_code": process.returncode()})

    # --- the throttle ------------------------------------------------------------------------------

    def reap_process(self, pid: int, status: int | None = None) -> None:
        process = self.processes.get(pid)
        if process is not None and status is None and process.is_alive():
            return  # circus would wait for its end here, and circusd would do nothing else meanwhile
        unasked = process is not None and not process.stopping and not self.is_stopping()
        super().reap_process(pid, status)
        if process is not None and unasked:
            code = process.returncode() if status is None else os.waitstatus_to_exitcode(status)
            if self._never_comes_up(process, code):
                self._give_up(code)
                return
            logger.warning("%s (process %d) %s; another one is started", self.name, pid, ending(code))
            self._note_death(process.age())

    def _never_comes_up(self, process: Process, code: int | None) -> bool:
        """The web at a first start: it ended by itself each time, and no worker of it has come up."""
        if not self.use_sockets or (self.folder / candidate.SERVED).exists():
            return False
        is_early = process.age() < self.patience_seconds and (code or 0) > 0
        self._failed_starts = self._failed_starts + 1 if is_early else 0
        return self._failed_starts >= FIRST_STARTS

    def _give_up(self, code: int | None) -> None:
        """Ends circusd, as a TERM does: clients would wait at the open port, and nobody would answer."""
        GatedWatcher.has_given_up = True
        GatedWatcher.reason = f"{self.name} {ending(code)}, {self._failed_starts} times in a row, and has never served"
        where = "The reason stands above, and in log/web.log or log/web.out"
        logger.critical("the start has failed: %s. %s", self.reason, where)
        if not self.goes_back:
            os.kill(os.getpid(), signal.SIGTERM)

    async def manage_processes(self) -> None:
        if self.has_given_up:
            return
        for process in list(self.processes.values()):
            if process.status in (DEAD_OR_ZOMBIE, UNEXISTING) and not process.stopping:
                self.reap_process(process.pid)
        for process in self._surplus():
            self._let_go(process)
        if len(self.processes) < self.numprocesses and self._throttle.holds(time.monotonic()):
            return
        await super().manage_processes()
        if self._throttle.crashes and self._is_steady():
            self._calm_down()

    def _surplus(self) -> list[Process]:
        """The oldest go, as in circus; but circus would wait for their ends."""
        newest_first = sorted(self.processes.values(), key=AgingProcess.age)
        return [process for process in newest_first[self.numprocesses :] if not process.stopping]

    def _is_steady(self) -> bool:
        ages = [process.age() for process in self.processes.values()]
        return len(ages) >= self.numprocesses and min(ages, default=OLD_SECONDS) >= OLD_SECONDS

    @property
    def _deaths_allowed(self) -> int:
        return DEATHS_AT_LEAST + DEATHS_A_PROCESS * self.numprocesses

    def _note_death(self, age_seconds: float) -> None:
        self._throttle.allowed = self._deaths_allowed
        self._throttle.died(age_seconds, time.monotonic())
        if pause := self._throttle.pause:
            crashes = self._throttle.crashes
            with contextlib.suppress(OSError):  # a full disk must not keep it from being started
                self._mark.parent.mkdir(exist_ok=True)
                self._mark.write_text(f"crashed {crashes} times in a row")
            logger.warning("%s has crashed %d times in a row; the next start waits %g s", self.name, crashes, pause)
            self.notify_event("throttled", {"pause": pause, "crashes": crashes})

    def _calm_down(self) -> None:
        self._throttle.grew_old()
        with contextlib.suppress(OSError):  # mostly there is none, and one that stays does little harm
            self._mark.unlink()
            logger.info("%s is not throttled any more", self.name)

    @property
    def _mark(self) -> Path:
        """The web workers see it: GET /health/ready names the watcher."""
        return self.folder / "throttled" / str(self.name)


def gated(_: object) -> type[GatedWatcher]:
    """What takes the place of circus's own class (private_names.py)."""
    return GatedWatcher
