"""Limits: how many tasks of one key run at once, or start in a time.

What a limit says stands in each partition, in the form that the scripts compare. A task's place (a limit and a key) is
asked for by whoever has read its document, and the script decides, by Redis's clock: it admits the task, or lets it
wait at the place (lua/limits.lua). A claim's places stand in the document, and end with the claim.

Rules are remembered for a second. A claim that asks by an old one is refused, and asks anew.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from service.errors import InvalidTask, StoreUnavailable
from service.store import keys, vacancies
from service.store.connection import Wire, in_each, rows
from service.store.connection.commands import Argument
from service.store.scripts import LIMIT, LIMITS, SERVE
from service.tasks import limit_rule
from service.tasks.declare import TaskType
from service.tasks.document import QUEUED, Task
from service.tasks.limit_rule import LimitRule

REMEMBERED_SECONDS: Final = 1.0
MOST_TOLD: Final = 100
AT_ONCE: Final = 100  # places
FEW: Final = 1000  # places that may be counted each time
COUNTED_A_SECOND: Final = 10_000  # places; Redis takes 33 ms
_encode = msgspec.json.Encoder().encode


class Limit(NamedTuple):
    rule: LimitRule | None  # None: it is not set any more, and tasks still wait
    waiting: int = 0
    keys: int = 0  # of so many keys


class Limits:
    def __init__(
        self, wire: Wire, groups: Sequence[Sequence[int]], partitions: int, need_layout: Callable[[], None]
    ) -> None:
        self._wire = wire
        self._groups = groups
        self._partitions = partitions
        self._need_layout = need_layout
        self._types: dict[str, TaskType] = {}
        self._named: dict[str, tuple[str, ...]] = {}  # by type
        self.types: frozenset[str] = frozenset()
        self._rules: dict[int, tuple[float, dict[str, LimitRule]]] = {}
        self._counted: tuple[float, dict[str, tuple[int, int]]] = (0.0, {})

    def know(self, types: Iterable[TaskType]) -> None:
        """Of types that name no limits nothing is asked."""
        known = list(types)
        self._named.update({each.name: each.limits for each in known})
        self._types.update({each.name: each for each in known if each.limits})
        self.types = frozenset(self._types)

    # --- where a task belongs ------------------------------------------------------------------------

    def asked(self, partition: int, task: Task) -> str:
        """All places of a task, with blanks between; "" if its type names no limit."""
        task_type = self._types.get(task.type)
        if task_type is None:
            return ""
        rules = self.rules(partition)
        return " ".join(_place(name, rules.get(name), task_type, task.args) for name in task_type.limits)

    def home(self, task: Task) -> int | None:
        """The partition in which a new task has its places; None if any will do. Raises InvalidTask if there is no
        one partition for all of its limits.
        """
        task_type = self._types.get(task.type)
        if task_type is None or self._partitions == 1:
            return None
        rules = [rule for name in task_type.limits if (rule := self.rules(0).get(name))]
        if len({rule.key for rule in rules}) > 1:
            raise InvalidTask(disagreeing(task_type), field="type")
        if not rules:
            return None
        key = rules[0].key
        return limit_rule.partition(key, limit_rule.value(key, task_type, task.args), self._partitions)

    def counts_by_key(self, task_type: str) -> bool:
        """A limit of the type that is set has a key."""
        rules = self.rules(0)
        return any((rule := rules.get(name)) and rule.key for name in self._types[task_type].limits)

    def rules(self, partition: int) -> dict[str, LimitRule]:
        """What limits say, a second ago at most; or longer ago, while that partition is away."""
        read, found = self._rules.get(partition, (0.0, {}))
        now = time.monotonic()
        if not read or now - read > REMEMBERED_SECONDS:
            try:
                [answer] = self._wire.call(partition, ("HGETALL", keys.limits(partition)))
                found = {name.decode(): _rule(text) for name, text in rows(answer, 2) if b":" not in name}
            except StoreUnavailable:
                if not read:
                    raise
            self._rules[partition] = now, found
        return found

    def look_anew(self) -> None:
        """A claim was refused: maybe because a limit has changed."""
        self._rules.clear()

    # --- what limits say -----------------------------------------------------------------------------

    def put(self, name: str, rule: LimitRule) -> bool:
        """Returns whether there was one of that name. Who waits for it is still to be served."""
        self._need_layout()
        return self._write(name, f"{rule.mode} {rule.bounds().numbers()} ".encode() + _encode(rule), rule)

    def remove(self, name: str) -> bool:
        return self._write(name, b"", None)

    def _write(self, name: str, text: bytes, rule: LimitRule | None) -> bool:
        overrides = rule.overrides if rule else {}
        numbers = [each for value, own in overrides.items() for each in (limit_rule.digest(value), own.numbers())]
        arguments: list[Argument] = [name, text, len(overrides), *numbers]
        try:
            return any([*in_each(self._groups, lambda group: self._write_in(group, arguments))])
        finally:  # some partitions may have it, though others are away
            self.look_anew()

    def _write_in(self, group: Sequence[int], arguments: Sequence[Argument]) -> bool:
        command = LIMIT.call(list(map(keys.limits, group)), [*arguments, *map(keys.base, group)])
        [existed] = self._wire.call(group[0], command)
        return bool(existed)

    def now(self) -> dict[str, Limit]:
        """Those that are set, and those at which tasks wait."""
        found: dict[str, Limit] = {}
        for group in self._groups:
            [fields] = self._wire.call(group[0], ("HGETALL", keys.limits(group[0])))
            for name, text in rows(fields, 2):
                if b":" not in name:
                    found.setdefault(name.decode(), Limit(_rule(text)))
        for name, (tasks, places) in self._count().items():
            found[name] = found.get(name, Limit(None))._replace(waiting=tasks, keys=places)
        return dict(sorted(found.items()))

    def _count(self) -> dict[str, tuple[int, int]]:
        """How many tasks wait at each, at how many places. Redis looks at each place: of many, the numbers are kept for
        a while, so that who asks again and again costs little.
        """
        until, counted = self._counted
        if time.monotonic() >= until:
            if _number(counted) > FEW:
                self._counted = time.monotonic() + REMEMBERED_SECONDS, counted  # for those who ask meanwhile
            counted = {}
            for group in self._groups:
                command = LIMITS.call(list(map(keys.limits, group)), list(map(keys.base, group)))
                [answer] = self._wire.call(group[0], command)
                for name, tasks, places in rows(answer, 3):
                    before = counted.get(name.decode(), (0, 0))
                    counted[name.decode()] = (before[0] + tasks, before[1] + places)
            seconds = number / COUNTED_A_SECOND if (number := _number(counted)) > FEW else 0.0
            self._counted = time.monotonic() + seconds, counted
        return counted

    def waiting(self) -> dict[str, int]:
        """How many tasks wait at each, of so many limits as one may draw."""
        return {name: each.waiting for name, each in itertools.islice(self.now().items(), MOST_TOLD)}

    # --- who waits -----------------------------------------------------------------------------------

    def serve(self, places: int = AT_ONCE) -> float:
        """Admits those whose time has come. Returns in how many seconds that is so again: 0 if there is more by now."""
        return min(in_each(self._groups, lambda group: self._serve(group, places)))

    def _serve(self, group: Sequence[int], places: int) -> float:
        command = SERVE.call([keys.limit(each, "wakes") for each in group], (places, *map(keys.base, group)))
        [microseconds] = self._wire.call(group[0], command)
        return microseconds / 1e6 if microseconds >= 0 else math.inf

    def vacate(self) -> Iterator[int]:
        """Who takes up a place without right leaves it. Tells a round trip at a time how many did."""
        return vacancies.vacate(self._wire, self._groups, self._named)

    def push_back(self, task: Task, partition: int, limit: str, seconds: float) -> None:
        """Nothing more of a claim's key with this limit starts for so long; it may have to rest for longer already."""
        for place in task.claim.places if task.claim else ():
            if place.startswith(f"{limit}:"):
                milliseconds = max(1, int(seconds * 1000))
                held = keys.limit(partition, f"held:{place}")
                self._wire.call(
                    partition,
                    ("SET", held, 1, "PX", milliseconds, "NX"),
                    ("PEXPIRE", held, milliseconds, "GT"),
                )

    def tell(self, tasks: Sequence[Task], partition_of: Callable[[str], int | None]) -> None:
        """Writes into tasks that were read at which limit they wait."""
        waiting = [task for task in tasks if task.status == QUEUED and task.type in self._types]
        for partition, queued in keys.by_partition(waiting, lambda task: partition_of(task.uid)).items():
            if partition is None:
                continue
            command = ("HMGET", keys.limit(partition, "tasks"), *[task.uid for task in queued])
            [answer] = self._wire.call(partition, command)
            for task, record in zip(queued, answer, strict=True):
                limit = record.decode().partition(":")[0] if record else ""
                task.blocked_by = None if not record or record.startswith(b"- ") else limit


def disagreeing(task_type: TaskType) -> str:
    return (
        f"type: {task_type.name} has limits that count by different keys ({', '.join(task_type.limits)}). On several "
        "partitions they would lie apart: give them the same key, or take one away"
    )


def _place(name: str, rule: LimitRule | None, task_type: TaskType, args: msgspec.Raw) -> str:
    if rule is None:
        return limit_rule.unset(name)
    return limit_rule.place(name, rule.key, limit_rule.value(rule.key, task_type, args))


def _rule(text: Any) -> LimitRule:
    return limit_rule.stored(text.split(b" ", 4)[4])


def _number(counted: Mapping[str, tuple[int, int]]) -> int:
    return sum(places for _, places in counted.values())
