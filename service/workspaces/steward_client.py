"""The hands on a host with a steward: the same verbs, asked for at its socket. docs/steward.md says what it does there.

The web processes have the circusd of the workspaces here, too. What it starts is a program of the steward's that hands
the socket on; it lives as long as the web process, which ends with it.
"""

import json
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from service.workspaces.hands import Ended, Facts, HandsFailed, Speaker, WebService
from service.workspaces.supervisor import WebProcesses

CONNECT_SECONDS: Final = 10.0  # a steward that is restarted is away for a moment
VERB_SECONDS: Final = 120.0
LOOK_SECONDS: Final = 0.2
KEPT_LINES: Final = 200
ANSWER_BYTES: Final = 1 << 20  # of a line: what the steward says comes from strangers' files


class Steward:
    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, verb: str, **arguments: Any) -> Any:
        *_, last = self.answers(verb, arguments, within=VERB_SECONDS)
        return last["done"]

    def answers(self, verb: str, arguments: Mapping[str, Any], *, within: float) -> Iterator[dict[str, Any]]:
        """As they come. Who stops listening ends what was asked for."""
        until = time.monotonic() + within
        with closing(self._connected()) as connection:
            connection.sendall(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
            connection.settimeout(LOOK_SECONDS)  # an interruption of the task comes between two looks
            rest = bytearray()
            while time.monotonic() < until:
                try:
                    chunk = connection.recv(65536)
                except TimeoutError:
                    continue
                rest += chunk
                lines: list[bytearray] = []
                if b"\n" in chunk:
                    *lines, rest = rest.split(b"\n")
                for line in lines:
                    answer = json.loads(line)
                    if "refused" in answer:
                        raise HandsFailed(answer["refused"])
                    yield answer
                    if "line" not in answer:
                        return
                if not chunk:
                    raise HandsFailed(f"the steward went away during {verb}")
                if len(rest) > ANSWER_BYTES:
                    raise HandsFailed(f"the steward's answer to {verb} is longer than {ANSWER_BYTES} bytes")
        raise HandsFailed(f"the steward does not answer to {verb}")

    def _connected(self) -> socket.socket:
        until = time.monotonic() + CONNECT_SECONDS
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self._path))
                return connection
            except OSError as error:
                connection.close()
                if time.monotonic() > until:
                    raise HandsFailed(
                        f"the steward does not answer at {self._path}, and without it nothing is done to isolated "
                        f"workspaces: service sandbox-steward start ({error})"
                    ) from error
                time.sleep(LOOK_SECONDS)


class StewardHands:
    def __init__(self, steward: Steward, web: WebProcesses) -> None:
        self._steward = steward
        self._web = web

    # --- user and folders ---------------------------------------------------------------------------

    def homes(self) -> list[str]:
        return list(map(str, self._steward.ask("homes")))

    def make_user(self, slug: str) -> None:
        self._steward.ask("make_user", slug=slug)

    def remove_user(self, slug: str) -> None:
        self._steward.ask("remove_user", slug=slug)

    def make_folders(self, slug: str) -> None:
        self._steward.ask("make_folders", slug=slug)

    def remove_folders(self, slug: str) -> None:
        self._steward.ask("remove_folders", slug=slug)

    def facts(self, slug: str) -> Facts:
        found = self._steward.ask("facts", slug=slug)
        venvs = {int(number): made_for for number, made_for in found.pop("venvs", {}).items()}
        return Facts(venvs=venvs, **found)

    def disk_mb(self, slug: str) -> int:
        return int(self._steward.ask("disk_mb", slug=slug))

    def last_used(self, slug: str) -> float | None:
        found: float | None = self._steward.ask("last_used", slug=slug)
        return found

    def web_log(self, slug: str) -> str:
        return "\n".join(self._steward.ask("log", slug=slug))

    # --- what is run --------------------------------------------------------------------------------

    def run(self, speaker: Speaker, slug: str, step: str, *arguments: str | int, seconds: float) -> Ended:
        said: deque[str] = deque(maxlen=KEPT_LINES)
        words = list(map(str, arguments))
        request = {"slug": slug, "step": step, "arguments": words, "seconds": seconds}
        for answer in self._steward.answers("run", request, within=seconds + VERB_SECONDS):
            if "line" not in answer:
                return Ended(int(answer["exit"]), "".join(f"{line}\n" for line in said))
            said.append(answer["line"])
            speaker.log(answer["line"])
        raise HandsFailed(f"the steward says nothing of how {step} ended")

    def end_steps(self, slug: str) -> None:
        self._steward.ask("end_steps", slug=slug)

    # --- its data -----------------------------------------------------------------------------------

    def write_env(self, slug: str, values: Mapping[str, str]) -> None:
        self._steward.ask("write_env", slug=slug, values=dict(values))

    def link_media(self, slug: str) -> None:
        self._steward.ask("link_media", slug=slug)

    def unlink_media(self, slug: str) -> None:
        self._steward.ask("unlink_media", slug=slug)

    def grant(self, slug: str, login: str) -> None:
        self._steward.ask("grant", slug=slug, login=login)

    def revoke(self, slug: str, login: str) -> None:
        self._steward.ask("revoke", slug=slug, login=login)

    # --- its processes ------------------------------------------------------------------------------

    def wake(self) -> bool:
        return self._web.wake()

    def start(self, slug: str, port: int = 0) -> None:
        self._web.keep_running(slug, port)

    def sleep(self, slug: str, port: int = 0) -> None:
        self._web.let_sleep(slug, port)

    def stop(self, slug: str) -> None:
        self._web.remove(slug)

    def restart(self, slug: str) -> None:
        self._web.restart(slug)

    def status(self, slug: str) -> WebService:
        return self._web.status(slug)

    def processes(self, slug: str) -> list[int]:
        return list(map(int, self._steward.ask("processes", slug=slug)))

    def kill(self, slug: str) -> None:
        self._steward.ask("kill", slug=slug)

    def left(self, slug: str) -> list[str]:
        return [*self._steward.ask("left", slug=slug), *self._web.left(slug)]
