"""Actors that stop before every call to Redis, so that a test chooses who goes next, and who dies.

An actor is a thread that runs the service's own code on a wire with a gate. At the gate it waits
for its fate: the call is made, or made twice (a wire repeats what it sent on a dead connection),
or fails, or is made and its answer lost; or the actor's whole process dies before or after it.
"""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any, Final

from service.errors import Cancelled, Interrupted, Reject, Retry, SandboxError, Stopping, StoreUnavailable
from service.observe.logs import Line
from service.observe.metrics import Metrics
from service.runner.alarm import Alarm
from service.runner.firing import Firing
from service.runner.journal import Report
from service.runner.lane import Lane
from service.runner.leases import Leases
from service.runner.lockfile import NEVER, Presence, Remains
from service.runner.neighbours import Neighbours
from service.runner.parking import Parking
from service.runner.progress import Progress
from service.runner.recovery import Recovery
from service.runner.relief import Relief
from service.runner.stop import Stop
from service.runner.task_logs import TaskLogs
from service.runner.window import Window
from service.store import Store, streams
from service.store.connection import Command, Subscription, Wire
from service.tasks.declare import task
from service.tasks.document import Task
from service.tasks.registry import Registry

QUEUES: Final = ("default",)
GATE_SECONDS: Final = 60.0
FOREVER_SECONDS: Final = 1e6


class Fate(Enum):
    GO = "the call is made"
    TWICE = "the call is made twice"
    FAIL = "the call fails"
    LOSE_ANSWER = "the call is made, its answer lost"
    DIE_BEFORE = "the process dies before the call"
    DIE_AFTER = "the process dies after the call"


DEADLY: Final = (Fate.DIE_BEFORE, Fate.DIE_AFTER)


class Died(BaseException):
    """The end of a process, in each of its threads."""


def _closed() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


class Actor:
    def __init__(self, name: str, do: Callable[[], object], process: "Process | None" = None) -> None:
        self.name = name
        self.process = process
        self.ended = False
        self.failure: BaseException | None = None
        self._do = do
        self._fate = Fate.GO
        self._go = _closed()
        self._at_gate = _closed()
        self._thread = threading.Thread(target=self._act, name=name, daemon=True)
        self._thread.start()
        self._wait_at_gate()

    def __repr__(self) -> str:
        return self.name

    def _act(self) -> None:
        _actors[threading.get_ident()] = self
        try:
            self._do()
        except Died:
            pass
        except SandboxError:
            pass  # a client that is told so
        except BaseException as error:
            if self._fate not in DEADLY:
                self.failure = error
        self.ended = True
        self._at_gate.release()

    def _wait_at_gate(self) -> None:
        assert self._at_gate.acquire(timeout=GATE_SECONDS), f"{self} neither ends nor calls Redis"
        if self.failure is not None:
            raise self.failure

    def go(self, fate: Fate) -> None:
        """Up to its next call."""
        self._fate = fate
        self._go.release()
        self._wait_at_gate()

    def meet_fate(self) -> Fate:
        """Waits at the gate."""
        if self._fate not in DEADLY:
            self._at_gate.release()
            self._go.acquire()
        if self._fate is Fate.DIE_BEFORE:
            raise Died
        return self._fate

    def die(self) -> None:
        if not self.ended:
            self.go(Fate.DIE_BEFORE)
        self._thread.join(GATE_SECONDS)


_actors: dict[int, Actor] = {}


def gate() -> Fate:
    return _actors[threading.get_ident()].meet_fate()


class GatedLock:
    """Whoever waits for it stands at the gate too: its holder may be waiting there for a step of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        while not self._lock.acquire(blocking=False):
            gate()

    def __exit__(self, *exception: object) -> None:
        self._lock.release()


class GatedWire(Wire):
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def call(self, partition: int, *commands: Command, wait_seconds: float = 0, once: bool = False) -> list[Any]:
        fate = gate()
        if fate is Fate.FAIL:
            raise StoreUnavailable("as the test wishes")
        if wait_seconds:
            commands = tuple(map(_without_block, commands))
        answers = self._wire.call(partition, *commands)
        if fate is Fate.TWICE and not once:
            answers = self._wire.call(partition, *commands)
        if fate is Fate.LOSE_ANSWER:
            raise StoreUnavailable("as the test wishes")
        if fate is Fate.DIE_AFTER:
            raise Died
        return answers

    def subscribe(self, partition: int, channel: str) -> Subscription:
        """Nobody is told of changes: each looks by himself."""
        raise StoreUnavailable("as the test wishes")

    def close(self) -> None:
        """The real wire is shared."""


def _without_block(command: Command) -> Command:
    """Only one actor moves at a time: if it waited in Redis, the others would stand still."""
    place = list(command).index("BLOCK")
    return (*command[:place], *command[place + 2 :])


# --- what the runners run --------------------------------------------------------------------------

_said: Final = itertools.count()  # no line is like another
ENDS: Final = ("succeed", "fail", "retry", "reject", "stop")


def work(context: Any, ends: list[str]) -> str:
    if int(context.uid[0], 16) % 2:  # the others say nothing
        context.log(f"line {next(_said)}")
    gate()
    if context.cancelled:
        raise Cancelled
    end = ends[context.attempt - 1] if context.attempt <= len(ends) else "succeed"
    if end == "fail":
        raise RuntimeError("as the test wishes")
    if end == "retry":
        raise Retry(after=0)
    if end == "reject":
        raise Reject("as the test wishes")
    if end == "stop":
        raise Stopping
    return end


@task("work", limits=("few",))
def known_work(context: Any, ends: list[str]) -> str:
    """What every release knows."""
    return work(context, ends)


@task("new", limits=("few", "rare"))
def new_work(context: Any, ends: list[str]) -> str:
    """What only the newer release knows."""
    return work(context, ends)


def registry(*handlers: Any) -> Registry:
    return Registry(handler.__sandbox_task__ for handler in handlers)


RELEASES: Final = {"old": registry(known_work), "new": registry(known_work, new_work)}


class QuietWindow(Window):
    """An interruption is told to the handler, which looks for it after its gate."""

    def interrupt(self, reason: type[Interrupted]) -> None:
        """`context.cancelled` says so already."""


class StagedPresence(Presence):
    """Presence, but for the lock: locks belong to processes, and here all runners share one."""

    def __init__(self, folder: Path, name: str) -> None:
        self.consumer = name
        self._folder = folder
        self._path = folder / name
        self._path.touch()
        _marks[self._path] = {}
        _living.add(self._path)

    def mark(self, lane: int, token: bytes, deadline: float = NEVER) -> None:
        _marks[self._path] = {token.decode(): deadline}

    def clear(self, lane: int) -> None:
        _marks[self._path] = {}

    def leave(self) -> None:
        self._path.unlink(missing_ok=True)

    def die(self) -> None:
        _living.discard(self._path)

    def dead_neighbours(self) -> Iterator[Remains]:
        for path in sorted(self._folder.iterdir()):
            if path not in _living:
                yield Remains(path.name, path, dict(_marks[path]))

    def beat(self) -> None:
        """Nobody here is held up."""

    def held_up_neighbours(self) -> Iterator[Remains]:
        return iter(())

    def remains(self, consumer: str) -> Remains | None:
        path = self._folder / consumer
        return Remains(consumer, path, dict(_marks[path])) if path in _marks else None

    def is_turn(self, duty: str, seconds: float) -> bool:
        return True

    def pass_turn(self, duty: str) -> None: ...

    def left_by_earlier_boots(self) -> Iterator[Remains]:
        return iter(())


_marks: Final[dict[Path, dict[str, float]]] = {}
_living: Final[set[Path]] = set()


class _Silence:
    def write(self, lines: Sequence[Line]) -> None:
        pass


class Process:
    """A runner with one lane, and its upkeep. With a lease of no time it robs everybody."""

    DUTIES: Final = ("relieve", "renew", "publish", "write", "tell", "unpark", "serve", "vacate", "fire")

    def __init__(self, name: str, wire: Wire, folder: Path, *, partitions: int, known: Registry, robber: bool) -> None:
        # A robber also parks at once what it does not know; the others leave it to somebody who may.
        known_seconds = 0.0 if robber else FOREVER_SECONDS
        self.store = Store(GatedWire(wire), partitions=partitions, known_seconds=known_seconds)
        self.store.limits.know(known)
        self.presence = StagedPresence(folder, name)
        self.stopping = Stop()
        self.alive = True
        lease = 0.0 if robber else FOREVER_SECONDS
        neighbours = Neighbours(store=self.store, presence=self.presence, queues=QUEUES, lease_seconds=lease)
        recovery = Recovery(
            store=self.store,
            registry=known,
            presence=self.presence,
            queues=QUEUES,
            lease_seconds=lease,
            held=lambda: self.lane.holdings.entries(),
            neighbours=neighbours,
        )
        self.lane = Lane(
            0,
            store=self.store,
            registry=known,
            presence=self.presence,
            report=Report(_Silence()),
            queues=QUEUES,
            stopping=self.stopping,
            alarm=Alarm(),
            lease_seconds=lease,
            grace_seconds=FOREVER_SECONDS,
            recovery=recovery,
        )
        self.lane.holdings._writing = GatedLock()  # type: ignore[assignment]
        leases = Leases([self.lane], store=self.store, presence=self.presence, lease_seconds=FOREVER_SECONDS)
        parking = Parking(self.store, types=[each.name for each in known])
        self._duties: dict[str, Callable[[], object]] = {
            "relieve": Relief([self.lane], self.stopping).relieve,
            "renew": leases.renew,
            "write": TaskLogs([self.lane]).write,
            "publish": Progress([self.lane], store=self.store, presence=self.presence).publish,
            "tell": parking.tell,
            "unpark": parking.unpark,
            "serve": self.store.limits.serve,
            "vacate": lambda: sum(self.store.limits.vacate()),
            "fire": self._fire,
        }
        self._firing = Firing(self.store, registry=known, metrics=Metrics())

    def __repr__(self) -> str:
        return self.presence.consumer

    def live(self) -> None:
        self.lane.work()
        with suppress(StoreUnavailable):
            consumer = self.presence.consumer
            partitions = range(self.store.partitions)
            forgotten = [self.store.queues.retire(partition, QUEUES, consumer) for partition in partitions]
            if all(forgotten):
                self.presence.leave()
        self.die()

    def do_duty(self, duty: str) -> None:
        with suppress(StoreUnavailable):
            self._duties[duty]()

    def _fire(self) -> None:
        for group in self.store.groups:
            self.store.promote(group[0], 2)
        self._firing.fire()

    def die(self) -> None:
        """The kernel frees the lock, and ends the threads."""
        self.alive = False
        self.presence.die()
        self.store.close()


# --- what Redis holds -------------------------------------------------------------------------------

SNAPSHOT: Final = b"""
local function stream(key)
  if redis.call('EXISTS', key) == 0 then
    return { {}, {} }
  end
  local pending = redis.pcall('XPENDING', key, 'runners', '-', '+', 10000)
  if pending.err then
    pending = {}
  end
  return { redis.call('XRANGE', key, '-', '+'), pending }
end

local documents, streams, shelves, lots = {}, {}, {}, {}
for i = 2, #ARGV do
  local uid, beside = ARGV[i], {}
  for place, kind in ipairs({ 'log:', 'attempts:' }) do
    beside[place] = redis.call('PTTL', ARGV[1] .. kind .. uid)
  end
  local lines = redis.call('XRANGE', ARGV[1] .. 'log:' .. uid, '-', '+')
  documents[#documents + 1] = { uid, redis.call('GET', uid), redis.call('PTTL', uid), beside, lines }
end
for i = 2, #KEYS do
  streams[#streams + 1] = stream(KEYS[i])
end
for _, name in ipairs(redis.call('SMEMBERS', ARGV[1] .. 'shelves')) do
  shelves[#shelves + 1] = { name, redis.call('ZRANGE', ARGV[1] .. 'shelf:' .. name, 0, -1, 'WITHSCORES') }
end
for _, name in ipairs(redis.call('SMEMBERS', ARGV[1] .. 'lots')) do
  lots[#lots + 1] = { name, redis.call('ZRANGE', ARGV[1] .. 'lot:' .. name, 0, -1, 'WITHSCORES') }
end
local limits = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. 'limit:*')) do
  local name, kind = string.sub(key, #ARGV[1] + 7), redis.call('TYPE', key).ok
  if kind == 'set' then
    limits[#limits + 1] = { name, redis.call('SMEMBERS', key) }
  elseif kind == 'zset' then
    limits[#limits + 1] = { name, redis.call('ZRANGE', key, 0, -1) }
  elseif kind == 'hash' then
    limits[#limits + 1] = { name, redis.call('HGETALL', key) }
  end
end
local due, pauses = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), redis.call('HKEYS', ARGV[1] .. 'pauses')
return { documents, streams, due, shelves, lots, pauses, redis.call('HGETALL', ARGV[1] .. 'unique'), limits }
"""


def pairs(flat: Sequence[Any]) -> Iterator[tuple[str, int]]:
    for member, score in zip(flat[::2], flat[1::2], strict=True):
        yield member.decode(), int(score)


class Snapshot:
    """Everything in one partition, read raw and at one moment."""

    def __init__(self, wire: Wire, store: Store, partition: int, uids: Sequence[str]) -> None:
        names = streams(partition, QUEUES)
        base = f"sandbox:{{{partition}}}:"
        keys = [base + "due", *names]
        [answer] = wire.call(partition, ("EVAL", SNAPSHOT, len(keys), *keys, base, *uids))
        documents, in_streams, due, shelves, lots, pauses, unique, limits = answer
        self.texts: dict[str, bytes] = {uid.decode(): text for uid, text, *_ in documents if text}
        self.ttl: dict[str, int] = {uid.decode(): ttl for uid, _, ttl, *_ in documents}
        self.ttls_beside: dict[str, list[int]] = {
            uid.decode(): [ttl for ttl in beside if ttl != -2] for uid, _, _, beside, _ in documents
        }
        self.lines: dict[str, list[bytes]] = {
            uid.decode(): [fields[1] for _, fields in lines] for uid, *_, lines in documents
        }
        self.entries: dict[tuple[str, str], str] = {}
        self.holders: dict[tuple[str, str], str] = {}
        for stream, (entries, pending) in zip(names, in_streams, strict=True):
            self.entries.update({(stream, entry.decode()): fields[1].decode() for entry, fields in entries})
            self.holders.update({(stream, row[0].decode()): row[1].decode() for row in pending})
        self.due = dict(pairs(due))
        self.shelves = {name.decode(): dict(pairs(members)) for name, members in shelves}
        self.lots = {name.decode(): dict(pairs(members)) for name, members in lots}
        self.limits = {name.decode(): [each.decode() for each in members] for name, members in limits}
        self.pauses = {pause.decode() for pause in pauses}
        records = [record.decode().split() for record in unique[1::2]]
        self.unique = {key.decode(): record[:2] for key, record in zip(unique[::2], records, strict=True)}


def client(do: Callable[[Store], object], wire: Wire, partitions: int, name: str) -> Actor:
    store = Store(GatedWire(wire), partitions=partitions)
    store.limits.know(RELEASES["new"])
    return Actor(name, lambda: do(store))


__all__ = ["Actor", "Fate", "Process", "Snapshot", "Task", "client"]
