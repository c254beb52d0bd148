"""A runner's life: it starts lanes that execute tasks, and the threads beside them, and stops them in order.

On HUP it wishes a reload, which the supervisor carries out.

The order of stopping, on TERM or INT:
1. the lanes take nothing new, and what has not started goes back to the front of its queue;
2. what runs may finish, for the grace time;
3. what still runs is interrupted, and goes back too, uncharged;
4. what cannot be interrupted ends with the process, two seconds later;
5. the runner leaves: its consumer is forgotten, its lock file removed;
6. the process ends, also if a handler has left threads that go on.
"""

import _signal  # type: ignore[import-not-found]
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

from service.errors import SandboxError, WrongRedis
from service.observe import log_file
from service.observe.metrics import Metrics
from service.observe.sentry import NO_ERRORS, Errors
from service.runner import beginnings
from service.runner.admission import Admission
from service.runner.alarm import Alarm
from service.runner.attendance import Attendance
from service.runner.children import Children
from service.runner.counting import Counting
from service.runner.due import Due
from service.runner.firing import Firing
from service.runner.gauges import Gauges
from service.runner.hearing import Hearing
from service.runner.journal import Report
from service.runner.lane import Lane
from service.runner.leases import Leases
from service.runner.lockfile import Presence
from service.runner.neighbours import Neighbours
from service.runner.news import News
from service.runner.parking import Parking
from service.runner.progress import Progress
from service.runner.recovery import Recovery
from service.runner.relief import Relief
from service.runner.stop import Stop
from service.runner.sweep import Sweep
from service.runner.task_logs import TaskLogs
from service.runner.upkeep import Keeper, Upkeep
from service.runner.watchdog import Watchdog
from service.runner.zygote import Zygote
from service.store import Entry, Store
from service.tasks.registry import Registry

TICK_SECONDS: Final = 0.05
START_SECONDS: Final = 3.0
LEFT_SECONDS: Final = 1.0

log = logging.getLogger("sandbox.runner")


class Runner:
    def __init__(
        self,
        *,
        store: Store,
        registry: Registry,
        report: Report,
        folder: Path,
        queues: Sequence[str],
        all_queues: Sequence[str],
        threads: int,
        lease_seconds: float,
        grace_seconds: float,
        retention_seconds: float,
        wish_reload: Callable[[], None],
        metrics: Metrics,
        errors: Errors = NO_ERRORS,
        run: Path | None = None,
        weights: Mapping[str, int] | None = None,
        release: str = "",
        zygote: Zygote | None = None,
    ) -> None:
        """`run` is the folder of what matters only while the service runs. `all_queues` are those that any runner of
        the installation serves. Without weights, the order of the queues is strict.
        """
        self._store = store
        store.limits.know(registry)
        self._queues = queues
        self._errors = errors
        self._zygote = zygote
        self._stopping = Stop()
        self._wish_reload = wish_reload
        self._reload_wished = False
        self._presence = Presence(folder, threads, run)
        neighbours = Neighbours(
            store=store,
            presence=self._presence,
            queues=all_queues,
            lease_seconds=lease_seconds,
            notices=run / "throttled" if run else None,
        )
        self._recovery = Recovery(
            store=store,
            registry=registry,
            presence=self._presence,
            queues=queues,
            all_queues=all_queues,
            lease_seconds=lease_seconds,
            held=self._held,
            neighbours=neighbours,
            errors=errors,
        )
        self._alarm = Alarm()
        children = Children(store, registry, metrics)
        news = News(store)
        self._lanes = [
            Lane(
                number,
                store=store,
                registry=registry,
                presence=self._presence,
                report=report,
                queues=queues,
                stopping=self._stopping,
                alarm=self._alarm,
                lease_seconds=lease_seconds,
                grace_seconds=grace_seconds,
                recovery=self._recovery,
                errors=errors,
                weights=weights,
                create=children.create,
                zygote=zygote,
                news=news,
            )
            for number in range(threads)
        ]
        self._watchdog = Watchdog(
            lanes=self._lanes,
            store=store,
            presence=self._presence,
            stopping=self._stopping,
            alarm=self._alarm,
            tally=report.tally,
            grace_seconds=grace_seconds,
            errors=errors,
        )
        consumer = self._presence.consumer
        self._counting = Counting(store, report.tally, consumer, run)
        self._attendance = Attendance(self._lanes, store=store, runner=consumer, queues=queues, release=release)
        self._upkeep = Upkeep(self._recovery.lost_contact)
        self._renewal = Upkeep(self._recovery.lost_contact, name="leases")
        Leases(self._lanes, store=store, presence=self._presence, lease_seconds=lease_seconds).register(self._renewal)
        keepers: list[Keeper] = [
            Relief(self._lanes, self._stopping),
            neighbours,
            Progress(self._lanes, store=store, presence=self._presence),
            TaskLogs(self._lanes),
            Due(store),
            Admission(store),
            Firing(store, registry=registry, metrics=metrics),
            Parking(store, types=[each.name for each in registry]),
            Sweep(store, retention_seconds=retention_seconds),
            self._recovery,
            Gauges(store, queues=all_queues, metrics=metrics),
            self._counting,
            self._attendance,
        ]
        for keeper in keepers:
            keeper.register(self._upkeep)
        self._upkeep.every(log_file.LOOK_SECONDS, log_file.caretaker.look)
        self._upkeep.every(0.0, self._wish_a_reload)

    def run(self) -> int:
        if _threads_are_replaced():
            log.warning(
                "a module of task types has called gevent.monkey.patch_all(): handlers cannot be interrupted, and "
                "a busy one holds up its whole process. Call patch_all(thread=False)"
            )
        self._take_signals()
        logging.getLogger().addHandler(Hearing())
        self._watchdog.start()
        self._wait_for_redis()
        log.info("runner %s serves %s", self._presence.consumer, ", ".join(self._queues))
        self._attendance.begin()
        self._renewal.start()
        self._upkeep.start()
        if len(self._lanes) > 1 and not _threads_are_replaced():
            beginnings.hold_off_interruptions()
        others = [threading.Thread(target=lane.work, name=f"lane-{lane.number}") for lane in self._lanes[1:]]
        for thread in others:
            thread.start()
        self._lanes[0].work()
        for thread in others:
            thread.join()
        self._upkeep.end()
        self._renewal.end()
        self._alarm.disarm()
        if self._zygote is not None:
            self._zygote.end()
        if lost := self._counting.end():
            log.warning("%s; the last seconds are missing in the history", lost)
        self._attendance.end()
        self._leave()
        self._end_with_what_is_left()
        return 0

    def _wait_for_redis(self) -> None:
        """Nothing is run before it is known to be the right one. As a rule it starts at the same time as this process:
        only if it takes longer, the log says so.
        """
        quiet_until = time.monotonic() + START_SECONDS
        while not self._stopping.is_set():
            try:
                self._store.claim()
                return self._store.check_one()
            except WrongRedis:
                self._alarm.disarm()  # its nudge would kill a Python that is ending
                self._presence.leave()
                raise
            except SandboxError as error:
                if time.monotonic() > quiet_until:
                    log.warning("%s; trying again", error, extra={"once": "store"})
                self._wish_a_reload()
                time.sleep(TICK_SECONDS)
        return None

    def _take_signals(self) -> None:
        def stop(signum: int, frame: FrameType | None) -> None:
            self._stopping.request()

        def interrupt(signum: int, frame: FrameType | None) -> None:
            if (running := self._lanes[0].running) is not None:
                running.window.arrive()
            self._watchdog.let_others_work()

        def reload(signum: int, frame: FrameType | None) -> None:
            self._reload_wished = True

        ours = {
            signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload, signal.SIGUSR1: interrupt,
        }  # fmt: skip
        take_signals = partial(_take, ours)
        take_signals()
        in_main_thread = self._lanes if _threads_are_replaced() else self._lanes[:1]  # as all greenlets are
        for lane in in_main_thread:
            lane.take_signals = take_signals
        os.register_at_fork(after_in_child=partial(_be_ended_by, ours))
        self._alarm.arm(self._presence.stacks)

    def _held(self) -> list[Entry]:
        return [entry for lane in self._lanes for entry in lane.holdings.entries()]

    def _leave(self) -> None:
        """What cannot be put in order is left to a neighbour, which finds the lock file."""
        try:
            partitions = range(self._store.partitions)
            forgotten = [
                self._store.queues.retire(number, self._queues, self._presence.consumer) for number in partitions
            ]
            if all(forgotten):
                self._presence.leave()
                log.info("runner %s has stopped", self._presence.consumer)
                return
            log.warning("something is left; another runner will take it, and forget this one")
        except SandboxError as error:
            log.warning("%s; another runner will forget this one", error)
        self._presence.tell()

    def _end_with_what_is_left(self) -> None:
        """Python would wait for threads and processes that handlers have left. They get a moment, no more."""
        until = time.monotonic() + LEFT_SECONDS
        for each in _left():
            each.join(max(0.0, until - time.monotonic()))
        if left := _left():
            log.warning("ends in spite of what handlers have left: %s", ", ".join(each.name for each in left))
            self._errors.flush()
            logging.shutdown()
            sys.stdout.flush()
            os._exit(0)

    # --- HUP ---------------------------------------------------------------------------------------

    def _wish_a_reload(self) -> None:
        if self._reload_wished:
            self._reload_wished = False
            self._wish_reload()


def _left() -> list[Any]:
    """The threads, and the processes of multiprocessing, for which Python waits at its end."""
    threads = [each for each in threading.enumerate() if not each.daemon and each is not threading.main_thread()]
    processes = sys.modules.get("multiprocessing.process")  # which only a handler has imported
    return [*threads, *(each for each in processes.active_children() if not each.daemon)] if processes else threads


def _take(ours: Mapping[signal.Signals, Callable[..., None]]) -> None:
    """After each attempt, so it must cost little: signal.getsignal() takes 4 microseconds a call."""
    for signum, heed in ours.items():
        if _signal.getsignal(signum) is not heed:
            signal.signal(signum, heed)


def _be_ended_by(ours: Mapping[signal.Signals, Callable[..., None]]) -> None:
    """In what a handler forks: there, nobody looks at what our own handlers of signals note."""
    for signum, heed in ours.items():
        if signal.getsignal(signum) is heed:
            signal.signal(signum, signal.SIG_DFL)


def _threads_are_replaced() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))
