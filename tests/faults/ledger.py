"""What clients were promised, what ran, what was done to the processes; and whether it all adds up.

It adds up if all of this is so:

- Each accepted task has finished, with the result of a run of its own; one that never ends was cancelled or timed out.
- Each run after a task's first has a reason: a blow to the process of the run before, that run's failure, or a
  document that could not be read for a while.
- Of a unique key one task runs at a time; what gave way for a newer one has not run.
- Of a limit's key no more run at a time than it admits.
- A schedule has created one task a time at most, and the number that it tells.
- A task that was seen finished has neither changed nor run since.
- Each task in Redis was asked for by a client.
- Each process that ended without having been told to was struck, or a handler held its interpreter.
"""

import itertools
import json
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

CRASH_LIMIT: Final = 3
AT_ONCE: Final = 2  # of a limited key
FINAL: Final = ("succeeded", "failed", "cancelled")
SPOILED: Final = b"{"  # what a saboteur puts in the place of a document, for a while
ENDED: Final = re.compile(r"\(process (\d+)\) (?:was ended|has ended)")
LINGER_SECONDS: Final = 30.0  # the old runner works on while a reload tries the new code


class Run(NamedTuple):
    uid: str
    attempt: int
    pid: int
    begun: float
    end: str  # ended, failed, or nothing
    over: float  # when that was


class Blow(NamedTuple):
    """Something was done to these processes: what they were doing may run again elsewhere."""

    kind: str
    pids: frozenset[int]
    at: float


class Finished(NamedTuple):
    text: bytes
    seen: float


class Ledger:
    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.accepted: set[str] = set()
        self.endless: set[str] = set()
        self.unique: dict[str, str] = {}  # the unique key of each task that wanted one
        self.limited: dict[str, str] = {}  # the limit's key of each task that has one
        self.unanswered = 0
        self.counts: Counter[str] = Counter()
        self.blows: list[Blow] = []
        self.complaints: list[str] = []
        self.finished: dict[str, Finished] = {}
        self.unfinished: set[str] = set()
        self.spoiled: set[str] = set()
        self.fired: dict[str, int] = {}  # how many tasks each schedule says that it has created
        self._holds: list[Blow] = []
        self._lock = threading.Lock()

    # --- entries -----------------------------------------------------------------------------------

    def accept(self, uids: Collection[str], how: str) -> None:
        with self._lock:
            self.counts[how] += 1
            self.unfinished.update(set(uids) - self.accepted)
            self.accepted.update(uids)

    def leave_open(self, tasks: int) -> None:
        """A request without a key was not answered: so many tasks may have been created, or not."""
        with self._lock:
            self.unanswered += tasks

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def complain(self, problem: str) -> None:
        with self._lock:
            self.complaints.append(problem)

    def strike(self, kind: str, pids: Iterable[int] = ()) -> None:
        """Call it before the blow."""
        self.blows.append(Blow(kind, frozenset(pids), time.monotonic()))

    def spoil(self, uid: str) -> None:
        """Its document cannot be read for a while: the task may run again. Call it before."""
        self.spoiled.add(uid)
        self.strike("document spoiled")

    def look(self, texts: Mapping[str, bytes | None]) -> None:
        """Takes documents as they are now, and remembers the finished ones as first seen."""
        seen = time.monotonic()
        whole = {uid: text for uid, text in texts.items() if text and text != SPOILED}
        done = {uid: text for uid, text in whole.items() if json.loads(text)["status"] in FINAL}
        with self._lock:
            self.finished.update({uid: Finished(text, seen) for uid, text in done.items()})
            self.unfinished.difference_update(done)

    # --- the balance ---------------------------------------------------------------------------------

    def problems(self, documents: Mapping[str, bytes]) -> list[str]:
        """`documents` is all that Redis holds, when everybody is idle."""
        runs = self._read_runs()
        found = [*self.complaints, *self._of_schedules(documents)]
        for uid in sorted(self.accepted):
            if problem := self._problem(uid, documents.get(uid), runs.get(uid, [])):
                found.append(f"{uid} {problem}")
            found += [f"{uid} {problem}" for problem in self._repetitions(uid, runs.get(uid, []))]
            if uid in self.finished and self.finished[uid].text != documents.get(uid):
                found.append(f"{uid} has changed since it was finished")
        found += self._overlaps(runs)
        strangers = documents.keys() - self.accepted
        if len(strangers) > self.unanswered:
            found.append(f"{len(strangers)} tasks that nobody was promised; {self.unanswered} may be")
        return found

    def unexplained(self, log: Path) -> Iterable[str]:
        """Of the ends of processes that circusd has noted."""
        self._read_runs()
        struck = {pid for blow in [*self.blows, *self._holds] for pid in blow.pids}
        for line in log.read_text().splitlines() if log.exists() else ():
            found = ENDED.search(json.loads(line)["message"])
            if found and int(found[1]) not in struck:
                yield f"nobody did anything to it: {found.string}"

    def _problem(self, uid: str, text: bytes | None, runs: list[Run]) -> str | None:
        if text is None:
            return "is lost"
        task = json.loads(text)
        if uid in self.endless:
            is_over = task["status"] == "cancelled" or (task.get("error") or {}).get("type") in ("TimedOut", "Crashed")
            return None if is_over else f"should never have ended: {task}"
        if uid in self.unique and (task.get("error") or {}).get("type") == "Replaced":
            return f"gave way for another one, and ran: {runs}" if runs else None
        if task["status"] == "failed" and task["crashes"] == CRASH_LIMIT:
            return None  # killed too often, as promised
        if task["status"] != "succeeded":
            return f"is {task['status']}: {task['error']}"
        if not any([run.attempt, run.pid] == task["result"] and run.end == "ended" for run in runs):
            return f"has a result that no run of it gave: {task['result']}, {runs}"
        return None

    def _repetitions(self, uid: str, runs: list[Run]) -> Iterable[str]:
        for before, again in itertools.pairwise(runs):
            if uid in self.finished and self.finished[uid].seen < again.begun:
                yield f"ran again after it was finished: {again}"
            elif self._reason(before, again) is None:
                yield f"ran again for no reason: {before}, {again}"

    def _of_schedules(self, documents: Mapping[str, bytes]) -> Iterable[str]:
        """What schedules have created counts as accepted from then on."""
        tasks = {uid: json.loads(text) for uid, text in documents.items() if text != SPOILED}
        timed = {uid: (task["schedule"], task["scheduled_for"]) for uid, task in tasks.items() if task.get("schedule")}
        self.accepted |= timed.keys()
        yield from (f"{n} tasks for one time: {time}" for time, n in Counter(timed.values()).items() if n > 1)
        for name, fired in self.fired.items():
            if fired != (there := Counter(name for name, _ in timed.values())[name]):
                yield f"{name} says that it has created {fired} tasks; there are {there}"

    def _overlaps(self, runs: Mapping[str, list[Run]]) -> Iterable[str]:
        yield from self._too_many(runs, self.unique, "unique key", 1)
        yield from self._too_many(runs, self.limited, "limited key", AT_ONCE)

    def _too_many(
        self, runs: Mapping[str, list[Run]], keys: Mapping[str, str], what: str, at_most: int
    ) -> Iterable[str]:
        """Of runs whose processes were left alone: others may go on for a while after their task was taken over."""
        struck = {pid for blow in [*self.blows, *self._holds] for pid in blow.pids}
        of_key = defaultdict(list)
        for uid, key in keys.items():
            of_key[key] += [run for run in runs.get(uid, []) if run.pid not in struck and uid not in self.spoiled]
        for key, of_one in of_key.items():
            going: list[Run] = []
            for run in sorted(of_one, key=lambda run: run.begun):
                going = [other for other in going if other.over > run.begun and other.uid != run.uid] + [run]
                if len(going) > at_most:
                    yield f"{len(going)} ran at the same time with the {what} {key}: {going}"

    def _reason(self, before: Run, again: Run) -> str | None:
        if before.end == "failed":
            return "failure"
        if before.uid in self.spoiled:
            return "document spoiled"
        for blow in [*self.blows, *self._holds]:
            doomed = before.pid in blow.pids and before.begun < blow.at + LINGER_SECONDS
            if doomed and blow.at <= again.begun:
                return blow.kind
        return None

    def _read_runs(self) -> dict[str, list[Run]]:
        """Each task's runs, in the order in which they began."""
        ends: dict[tuple[str, str, str], tuple[str, float]] = {}
        begun: list[tuple[str, str, str, str]] = []
        self._holds = []
        for line in self.runs.read_text().splitlines() if self.runs.exists() else ():
            what, uid, attempt, pid, at = line.split()
            if what == "begun":
                begun.append((uid, attempt, pid, at))
            elif what == "held":
                self._holds.append(Blow("a handler held it", frozenset([int(pid)]), float(at)))
            else:
                ends[uid, attempt, pid] = what, float(at)
        runs = defaultdict(list)
        for uid, attempt, pid, at in sorted(begun, key=lambda line: float(line[3])):
            runs[uid].append(Run(uid, int(attempt), int(pid), float(at), *ends.get((uid, attempt, pid), ("", 0.0))))
        return runs

    # --- for people ------------------------------------------------------------------------------------

    def line(self) -> str:
        blows = len(self.blows)
        return f"accepted {len(self.accepted):6,}   finished {len(self.finished):6,}   blows {blows:4,}"

    def table(self) -> str:
        runs = self._read_runs()
        again = Counter(
            f"after {reason}" if (reason := self._reason(before, after)) else "for no reason"
            for of_one in runs.values()
            for before, after in itertools.pairwise(of_one)
        )
        rows = [
            ("accepted", len(self.accepted), self.counts),
            ("finished", len(self.finished), {}),
            ("runs", sum(map(len, runs.values())), {}),
            ("runs again", sum(again.values()), again),
            ("blows", len(self.blows), Counter(blow.kind for blow in self.blows)),
        ]
        return "\n".join(f"  {name:<10} {number:>7,}  {_listed(parts)}".rstrip() for name, number, parts in rows)


def _listed(parts: Mapping[Any, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(parts.items(), key=lambda part: -part[1]))
