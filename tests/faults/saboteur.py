"""Does to the processes of a sandbox what happens to processes, and writes it into the ledger."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import redis

from tests.faults.ledger import SPOILED, Ledger
from tests.servers import RedisServer, eventually
from tests.system.instance import Instance, Process
from tests.system.releases import Releases

START_SECONDS: Final = 90.0
ASKING_SECONDS: Final = 3.0
RELOAD_SECONDS: Final = 90.0
SWAP: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
"""


def client_of(instance: Instance) -> redis.Redis:
    url = instance.environment.get("REDIS_URL", f"unix://{instance.home}/run/redis.sock")
    return redis.Redis.from_url(url, socket_timeout=2)


class Saboteur:
    def __init__(
        self, instance: Instance, releases: Releases, redis: RedisServer | None, ledger: Ledger, dice: random.Random
    ) -> None:
        self._instance = instance
        self._releases = releases
        self._good = releases.make("good")
        self._broken = releases.make("broken").add("service/web/app.py", "import nowhere")
        self._broken.add("service/tasks/registry.py", "import nowhere")
        self._telling: threading.Thread | None = None
        releases.switch(self._good)
        self._redis = redis
        self._ledger = ledger
        self._dice = dice
        self.deeds: list[Callable[[], None]] = [
            self.kill_a_runner,
            self.kill_a_runner,
            self.kill_a_web_worker,
            self.kill_the_arbiter,
            self.kill_redis,
            self.freeze_redis,
            self.freeze_a_runner,
            self.kill_circusd,
            self.kill_everything,
            self.stop_a_runner,
            self.reload_a_runner,
            self.reload_the_runners,
            self.reload_the_web,
            self.reload_a_broken_release,
            self.restart_the_runners,
            self.one_runner_more_and_less,
            self.spoil_a_document,
        ]

    def strike(self) -> None:
        self._dice.choice(self.deeds)()

    # --- one process ---------------------------------------------------------------------------------

    def kill_a_runner(self) -> None:
        self._send(signal.SIGKILL, "runner killed", self._some("runner"))

    def stop_a_runner(self) -> None:
        self._send(signal.SIGTERM, "runner stopped", self._some("runner"))

    def reload_a_runner(self) -> None:
        """By HUP: it asks for a reload of all runners. The next blow waits until that is over."""
        self.end()
        there = {process.pid for process in self._instance.kinds()["runner"]}
        self._ledger.strike("runners reloaded by HUP", there)
        self._send(signal.SIGHUP, "runner asked to reload", self._some("runner"))
        with suppress(AssertionError):  # it was about to end, or to start
            eventually(self._is_asking, ASKING_SECONDS)
            eventually(lambda: not self._is_asking(), RELOAD_SECONDS)

    def _is_asking(self) -> bool:
        return any("circus.circusctl reload" in process.command for process in self._instance.processes())

    def freeze_a_runner(self) -> None:
        self._freeze("runner frozen", self._some("runner"))

    def kill_a_web_worker(self) -> None:
        self._send(signal.SIGKILL, "web worker killed", self._some("web", first=1))

    def kill_the_arbiter(self) -> None:
        self._send(signal.SIGKILL, "arbiter killed", self._some("web", last=1))

    # --- Redis -----------------------------------------------------------------------------------------

    def kill_redis(self) -> None:
        if self._redis is None:
            self._send(signal.SIGKILL, "Redis killed", self._some("redis"))
        else:
            self._ledger.strike("Redis killed")
            self._redis.kill()
            self._pause(0, 3)
            self._redis.start()

    def freeze_redis(self) -> None:
        if self._redis is None:
            self._freeze("Redis frozen", self._some("redis"))
        else:
            self._ledger.strike("Redis frozen")
            self._redis.freeze()
            self._pause(0.2, 4)
            self._redis.thaw()

    def spoil_a_document(self) -> None:
        """Of an unfinished task, for a while: it cannot be read, and nothing of it may be lost."""
        if not (unfinished := sorted(self._ledger.unfinished)):
            return
        uid = self._dice.choice(unfinished)
        with client_of(self._instance) as client, suppress(redis.RedisError):
            if whole := client.get(uid):
                self._ledger.spoil(uid)
                if client.eval(SWAP, 1, uid, whole, SPOILED):
                    self._pause(0, 3)
                    if not client.eval(SWAP, 1, uid, SPOILED, whole):
                        self._ledger.complain(f"{uid} could not be read, and was changed or dropped")

    # --- the supervisor, and what it is told -----------------------------------------------------------

    def kill_circusd(self) -> None:
        self._ledger.strike("circusd killed")
        self._instance.kill()
        self._pause(0, 3)
        self._ledger.strike("take-over", [runner.pid for runner in self._instance.kinds()["runner"]])
        self.start()

    def kill_everything(self) -> None:
        while processes := self._instance.processes():
            self._ledger.strike("everything killed", [process.pid for process in processes])
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        self._instance.wait()
        self._pause(0, 2)
        self.start()

    def start(self) -> None:
        """Starts it, and waits until it says that it serves. Before that, it ends what the one before has left."""
        self._instance.start()
        until = time.monotonic() + START_SECONDS
        while "Ctrl-C" not in self._instance.output:
            if not self._instance.is_running() or time.monotonic() > until:
                raise AssertionError(f"it does not start: {self._instance.output}")
            time.sleep(0.05)

    # --- releases --------------------------------------------------------------------------------------

    def reload_the_web(self) -> None:
        self._tell("web reloaded", "web", "reload", "sandbox")

    def reload_the_runners(self) -> None:
        self._tell("runners reloaded", "runner", "--json", "reload", "sandbox-runner")

    def reload_a_broken_release(self) -> None:
        """Waits for the answer, so that the good release is back before the next blow."""
        self.end()
        self._ledger.strike("broken release")
        self._releases.switch(self._broken)
        answer = self._instance.circusctl("reload", self._dice.choice(("sandbox", "sandbox-runner")))
        self._releases.switch(self._good)
        if "is refused" not in answer:
            self._ledger.complain(f"the reload of a broken release was answered with {answer}")

    def restart_the_runners(self) -> None:
        self._tell("runners restarted", "runner", "restart", "sandbox-runner", "--waiting")

    def one_runner_more_and_less(self) -> None:
        self.end()
        self._instance.circusctl("incr", "sandbox-runner", "1")
        self._tell("runners fewer", "runner", "decr", "sandbox-runner", "1", "--waiting")

    def _tell(self, kind: str, whom: str, *words: str) -> None:
        """Does not wait for the outcome: the next blow may hit while the command is under way."""
        self.end()
        there = {process.pid for process in self._instance.kinds()[whom]}
        self._ledger.strike(kind, there)

        def tell() -> None:
            if later := _stopping(self._instance.circusctl(*words)) - there:
                self._ledger.strike(kind, later)

        self._telling = threading.Thread(target=tell)
        self._telling.start()

    def end(self) -> None:
        if self._telling is not None:
            self._telling.join()

    # --- how -------------------------------------------------------------------------------------------

    def _some(self, kind: str, first: int = 0, last: int | None = None) -> Process | None:
        """One by chance. By their pids, an arbiter comes before its workers."""
        processes = sorted(self._instance.kinds()[kind])[first:last]
        return self._dice.choice(processes) if processes else None

    def _send(self, signum: int, kind: str, process: Process | None) -> None:
        if process is not None:
            with suppress(ProcessLookupError):
                self._ledger.strike(kind, [process.pid])
                os.kill(process.pid, signum)

    def _freeze(self, kind: str, process: Process | None) -> None:
        if process is not None:
            with suppress(ProcessLookupError):
                self._ledger.strike(kind)
                os.kill(process.pid, signal.SIGSTOP)
                self._pause(0.2, 4)
                os.kill(process.pid, signal.SIGCONT)

    def _pause(self, shortest: float, longest: float) -> None:
        time.sleep(self._dice.uniform(shortest, longest))


def _stopping(answer: str) -> set[int]:
    """The processes that a reload stops: also those that replaced crashed ones during the trial."""
    try:
        told = json.loads(answer)
    except ValueError:
        return set()
    reloaded = told.get("reloaded", {}) if isinstance(told, dict) else {}
    return {pid for outcome in reloaded.values() for pid in outcome["stopping"]}
