"""A client that never gives up: without an answer, or after a 503, it sends the same again with the same key."""

import http.client
import json
import random
import threading
import time
import uuid
from typing import Any, Final

from tests.faults.ledger import Ledger

PAUSE_SECONDS: Final = 0.1
ANSWER_SECONDS: Final = 15.0
HANG_SECONDS: Final = 20.0  # should nobody be there who could end it
BACKLOG: Final = 500  # unfinished tasks at most: else they would pile up for hours


class Client(threading.Thread):
    def __init__(self, port: int, ledger: Ledger, dice: random.Random) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._ledger = ledger
        self._dice = dice
        self._over = threading.Event()
        self._to_cancel: list[tuple[float, str]] = []

    def run(self) -> None:
        try:
            while not self._over.wait(self._dice.uniform(0.02, 0.15)):
                self._cancel_what_never_ends()
                if len(self._ledger.unfinished) < BACKLOG:
                    self._ask()
        except Exception as error:
            self._ledger.complain(f"a client failed: {error!r}")

    def end(self) -> None:
        """Ends after the answer that it waits for. The service must be there."""
        self._over.set()
        self.join(60)
        if self.is_alive():
            self._ledger.complain("a client was not answered for a minute")

    def _ask(self) -> None:
        batch = self._dice.random() < 0.1
        tasks = [self._task() for _ in range(self._dice.randint(2, 30) if batch else 1)]
        if not batch and (kind := self._dice.random()) < 0.2:
            tasks = [self._unique_task() if kind < 0.1 else self._limited_task()]
        key = uuid.UUID(int=self._dice.getrandbits(128)).hex if self._dice.random() < 0.9 else None
        uids = self._create("/tasks/batch" if batch else "/tasks", tasks if batch else tasks[0], key)
        if uids is None:
            return self._ledger.leave_open(len(tasks))
        self._ledger.unique |= {
            uid: task["unique"]["key"] for uid, task in zip(uids, tasks, strict=True) if "unique" in task
        }
        self._ledger.limited |= {
            uid: task["args"]["customer"] for uid, task in zip(uids, tasks, strict=True) if task["type"] == "limited"
        }
        endless = [uid for uid, task in zip(uids, tasks, strict=True) if task["type"] == "hang"]
        self._ledger.endless.update(endless)
        self._to_cancel += [(time.monotonic() + self._dice.uniform(0, 6), uid) for uid in endless]
        self._ledger.accept(uids, "batches" if batch else "alone")
        if key and self._dice.random() < 0.1:
            again = self._create("/tasks/batch" if batch else "/tasks", tasks if batch else tasks[0], key)
            if again != uids:
                self._ledger.complain(f"the same key gave {again} after {uids}")
        return None

    def _task(self) -> dict[str, Any]:
        args: dict[str, Any] = {"path": str(self._ledger.runs)}
        task: dict[str, Any] = {"type": "work", "args": args}
        kind = self._dice.random()
        if kind < 0.05:
            args["seconds"] = round(self._dice.uniform(0.05, 0.3), 3)
        elif kind < 0.06:
            args["seconds"] = round(self._dice.uniform(1, 3), 3)
        elif kind < 0.1:
            task["delay"] = round(self._dice.uniform(0.2, 3), 3)
        elif kind < 0.12:
            args["failures"] = 1
        elif kind < 0.125:
            task["type"] = "thread"
        elif kind < 0.13:
            task |= {"type": "raise", "args": args | {"what": self._dice.choice(("Cancelled", "Stopping"))}}
        elif kind < 0.132:
            task |= {"type": "hang", "args": args | {"way": self._dice.choice(("regex", "lock"))}}
            task |= {"timeout": HANG_SECONDS, "max_attempts": 1}
        return task

    def _unique_task(self) -> dict[str, Any]:
        """One runs, and the newest waits."""
        key, seconds = self._dice.choice("abc"), round(self._dice.uniform(0.05, 0.5), 3)
        args = {"path": str(self._ledger.runs), "seconds": seconds}
        return {"type": "work", "args": args, "unique": {"key": key, "on_conflict": "keep_last"}}

    def _limited_task(self) -> dict[str, Any]:
        seconds = round(self._dice.uniform(0.05, 0.5), 3)
        args = {"path": str(self._ledger.runs), "customer": self._dice.choice("xyz"), "seconds": seconds}
        return {"type": "limited", "args": args}

    def _cancel_what_never_ends(self) -> None:
        """A cancel that is not answered is left to the timeout."""
        now = time.monotonic()
        for _, uid in [due for due in self._to_cancel if due[0] < now]:
            self._send("DELETE", f"/tasks/{uid}", None, None)
        self._to_cancel = [due for due in self._to_cancel if due[0] >= now]

    def _create(self, path: str, body: Any, key: str | None) -> list[str] | None:
        while True:
            status, answer = self._send("POST", path, body, key)
            if status in (200, 201):
                tasks = answer["tasks"] if path.endswith("batch") else [answer]
                return [task["uid"] for task in tasks]
            if status == 409 and "holder" in answer:
                self._ledger.count("refused: the holder cannot be read for a while")
                return None
            if status not in (0, 503):
                self._ledger.complain(f"POST {path} was answered with {status}: {answer}")
                return None
            self._ledger.count("503s" if status else "lost answers")
            if key is None:
                return None
            threading.Event().wait(PAUSE_SECONDS)

    def insist(self, method: str, path: str, body: Any = None) -> Any:
        """Asks until it is answered."""
        while True:
            status, answer = self._send(method, path, body, None)
            if status in (200, 201):
                return answer
            if status not in (0, 503):
                raise AssertionError(f"{method} {path} was answered with {status}: {answer}")
            threading.Event().wait(PAUSE_SECONDS)

    def _send(self, method: str, path: str, body: Any, key: str | None) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException):
            return 0, None
        finally:
            connection.close()
