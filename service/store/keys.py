"""The names of the keys in Redis, and which partition a UID belongs to. Pure; docs/store.md lists the keys."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from service.tasks.document import HIGH, LOW, NORMAL, PRIORITIES, Task
from service.tasks.uid import slot, steer

GROUP: Final = "runners"
_Item = TypeVar("_Item")
_Partition = TypeVar("_Partition", int, int | None)
_LINES: Final = {HIGH: "high", NORMAL: "queue", LOW: "low"}


def by_partition(items: Iterable[_Item], of: Callable[[_Item], _Partition]) -> dict[_Partition, list[_Item]]:
    found: dict[_Partition, list[_Item]] = {}
    for item in items:
        found.setdefault(of(item), []).append(item)
    return found


def due(partition: int) -> str:
    return f"sandbox:{{{partition}}}:due"


def takes(partition: int) -> str:
    return f"sandbox:{{{partition}}}:takes"


def shelves(partition: int) -> str:
    return f"sandbox:{{{partition}}}:shelves"


def shelf(partition: int, name: str) -> str:
    return f"sandbox:{{{partition}}}:shelf:{name}"


def shelf_name(task: Task, status: str) -> str:
    return f"{task.type}:{task.queue}:{status}"


def queue(partition: int, queue: str) -> str:
    return f"sandbox:{{{partition}}}:queue:{queue}"


def line(partition: int, queue: str, priority: str) -> str:
    """Where a task of this priority waits. One that a later release has thought of waits with the normal ones."""
    return f"sandbox:{{{partition}}}:{_LINES.get(priority, 'queue')}:{queue}"


def returned(partition: int, queue: str) -> str:
    return f"sandbox:{{{partition}}}:returned:{queue}"


def streams(partition: int, queues: Iterable[str], priorities: Sequence[str] = PRIORITIES) -> list[str]:
    """Every stream of these queues, in the order in which they are served."""
    return [
        name
        for each in queues
        for name in (returned(partition, each), *[line(partition, each, priority) for priority in priorities])
    ]


def pauses(partition: int) -> str:
    return f"sandbox:{{{partition}}}:pauses"


def resumed(partition: int) -> str:
    """A stream that never has more than one entry: who waits in it wakes when a queue or a type is resumed."""
    return f"sandbox:{{{partition}}}:resumed"


def types(partition: int) -> str:
    """When a runner last told that it knows a type."""
    return f"sandbox:{{{partition}}}:types"


def unique(partition: int) -> str:
    """Who has which unique key."""
    return f"sandbox:{{{partition}}}:unique"


def lots(partition: int) -> str:
    return f"sandbox:{{{partition}}}:lots"


def lot(partition: int, name: str) -> str:
    return f"sandbox:{{{partition}}}:lot:{name}"


def lot_name(task: Task) -> str:
    return f"{task.type}:{task.queue}:{task.priority if task.priority in _LINES else NORMAL}"


def limits(partition: int) -> str:
    """What each limit says; and what it says otherwise for a key, under the digest of that."""
    return f"sandbox:{{{partition}}}:limits"


def limit(partition: int, what: str) -> str:
    """`wakes`, `places`, `tasks`, or something of one place, as `waiting:<place>` (lua/limits.lua)."""
    return f"sandbox:{{{partition}}}:limit:{what}"


def schedule(partition: int, name: str) -> str:
    return f"sandbox:{{{partition}}}:schedule:{name}"


def timetable(partition: int) -> str:
    """Schedules by when they are looked at next; the end of time for those that rest."""
    return f"sandbox:{{{partition}}}:timetable"


def base(partition: int) -> str:
    return f"sandbox:{{{partition}}}:"


def log(partition: int, uid: str) -> str:
    return f"sandbox:{{{partition}}}:log:{uid}"


def attempts(partition: int, uid: str) -> str:
    return f"sandbox:{{{partition}}}:attempts:{uid}"


def duty(partition: int, name: str) -> str:
    return f"sandbox:{{{partition}}}:{name}"


def ready(partition: int) -> str:
    return f"sandbox:{{{partition}}}:ready"


def probe(partition: int, kind: str) -> str:
    """What no task uses, for the look whether Redis can be written."""
    return f"sandbox:{{{partition}}}:probe:{kind}"


def layout() -> str:
    """One for all partitions. It lies in the slot of partition 0, because every installation has that one."""
    return "sandbox:{0}:layout"


def session(digest: str) -> str:
    """Of somebody who has signed in; as `layout`, in the slot of partition 0."""
    return f"sandbox:{{0}}:session:{digest}"


def code(digest: str) -> str:
    return f"sandbox:{{0}}:code:{digest}"


def history(record: str = "") -> str:
    """What is told of all partitions lies in the slot of partition 0, too."""
    return f"sandbox:{{0}}:history:{record}"


def history_series() -> str:
    return "sandbox:{0}:history:series"


def history_gauges() -> str:
    return "sandbox:{0}:history:measured"


def history_marks() -> str:
    return "sandbox:{0}:history:marks"


def history_writer(writer: str) -> str:
    return f"sandbox:{{0}}:history:writer:{writer}"


def roster() -> str:
    return "sandbox:{0}:roster"


def at_work(runner: str) -> str:
    return f"sandbox:{{0}}:roster:{runner}"


def note(partition: int, uid: str) -> str:
    """What a task that acts on many others has written down of how far it is."""
    return f"sandbox:{{{partition}}}:note:{uid}"


def changes(partition: int) -> str:
    """The shard channel that tells of changed documents; it lies in the partition's slot."""
    return f"sandbox:{{{partition}}}:changes"


class Partitions:
    """Which partition a UID lies in, and UIDs that lie in a given one."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._slots = [slot(str(partition).encode()) for partition in range(count)]
        self._by_slot = {slot: partition for partition, slot in enumerate(self._slots)}

    def uid(self, prefix: str, partition: int | None = None) -> str:
        """The whole UID. The prefix chooses the partition unless one is given."""
        if partition is None:
            partition = self.chosen(prefix)
        return steer(prefix, self._slots[partition])

    def chosen(self, prefix: str) -> int:
        """The partition that a UID's prefix chooses, or a unique key's name."""
        return int(prefix[:8], 16) % len(self._slots)

    def of(self, uid: str) -> int | None:
        """None for a UID that this service never made."""
        return self._by_slot.get(slot(uid.encode()))

    def home(self, uid: str) -> int:
        partition = self.of(uid)
        if partition is None:
            raise ValueError(f"{uid} lies in no partition of this service")
        return partition
