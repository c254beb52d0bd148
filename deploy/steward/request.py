"""A request: who asks, for what, and whether it is granted. Each has a process of its own."""

import array
import contextlib
import json
import os
import re
import select
import selectors
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from service.workspaces import recipes
from steward.as_user import become
from steward.cage import SOCKET_FD, end_cage, kill_cage
from steward.errors import Refused
from steward.inside import LINE_BYTES, keep_log
from steward.verbs import GRACE_SECONDS, VARIABLE, Steward

SLUG: Final = re.compile(r"w-[a-z0-9](?:[a-z0-9-]{0,18}[a-z0-9])?-[a-z2-7]{8}")
LOGIN: Final = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
REQUEST_BYTES: Final = 65_536
REQUEST_SECONDS: Final = 5
LOOK_SECONDS: Final = 0.1
LEFT_BYTES: Final = 1 << 20  # of what a step has said and is not read yet when it ends: as much as the largest pipe


def _like(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _number(lowest: float, highest: float) -> Callable[[Any], bool]:
    return lambda value: type(value) in (int, float) and lowest <= value <= highest


def _arguments(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) <= 4 and all(map(_like(re.compile(r"[^\x00-\x1f\x7f]{0,300}")), value))
    )


def _values(value: Any) -> bool:
    name, text = _like(VARIABLE), _like(re.compile(r"[^\x00\n\r]{0,8000}"))
    return isinstance(value, dict) and len(value) <= 64 and all(name(each) and text(value[each]) for each in value)


def _left_in(pipe: int) -> bytes:
    """What has been written by now. Others may hold the pipe open, and write on: there need be no end."""
    os.set_blocking(pipe, False)
    found = b""
    with contextlib.suppress(BlockingIOError):
        while len(found) < LEFT_BYTES and (chunk := os.read(pipe, REQUEST_BYTES)):
            found += chunk
    return found


ARGUMENTS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "slug": _like(SLUG),
    "login": _like(LOGIN),
    "step": _like(re.compile(r"[a-z-]{1,20}")),
    "arguments": _arguments,
    "seconds": _number(0.1, 7200),
    "values": _values,
    "port": _number(0, 65_535),
}
VERBS: Final[Mapping[str, Sequence[str]]] = {
    **dict.fromkeys(("about", "homes"), ()),
    **dict.fromkeys(("make_user", "make_folders", "remove_folders", "remove_user", "facts"), ("slug",)),
    **dict.fromkeys(("disk_mb", "last_used", "end_steps"), ("slug",)),
    **dict.fromkeys(("link_media", "unlink_media", "processes", "kill", "left", "status", "log", "restart"), ("slug",)),
    "write_env": ("slug", "values"),
    "grant": ("slug", "login"),
    "revoke": ("slug", "login"),
    "run": ("slug", "step", "arguments", "seconds"),
    "web": ("slug", "port"),
}
MEMBERS: Final = ("status", "log", "restart")


class Request:
    """One connection, in a process of its own."""

    def __init__(self, steward: Steward, connection: socket.socket, peer: int, serves: Callable[[], None]) -> None:
        self._steward = steward
        self._serves = serves
        self._connection = connection
        self._peer = peer
        self._ending = False
        self._descriptors: list[int] = []

    def serve(self) -> None:
        signal.signal(signal.SIGTERM, self._end)
        try:
            self._answer(self._granted(self._read()))
        except Refused as error:
            self._send({"refused": str(error)})
        except OSError as error:
            self._send({"refused": f"{type(error).__name__}: {error}"})
        except Exception:
            self._send({"refused": "the steward has failed at this: its log says how"})
            raise

    def _end(self, *_: object) -> None:
        self._ending = True

    def _read(self) -> dict[str, Any]:
        """The line, and at most one descriptor."""
        until = time.monotonic() + REQUEST_SECONDS
        text = b""
        while not text.endswith(b"\n"):
            self._connection.settimeout(max(0, until - time.monotonic()))
            try:
                chunk, ancillary, _, _ = self._connection.recvmsg(REQUEST_BYTES, socket.CMSG_SPACE(4))
            except (TimeoutError, BlockingIOError):
                raise Refused(f"a request is said within {REQUEST_SECONDS} seconds") from None
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    self._descriptors += array.array("i", content[: len(content) - len(content) % 4])
            text += chunk
            if not chunk or len(text) > REQUEST_BYTES:
                raise Refused("a request is one line of JSON")
        try:
            found = json.loads(text)
        except ValueError:
            raise Refused("a request is one line of JSON") from None
        if not isinstance(found, dict):
            raise Refused("a request is an object of JSON")
        return found

    def _granted(self, request: dict[str, Any]) -> dict[str, Any]:
        verb = request.get("verb")
        if not isinstance(verb, str) or verb not in VERBS:
            raise Refused("there is no such verb")
        is_ours = self._peer in (0, self._steward.config.service_uid)
        if not is_ours and verb not in MEMBERS:
            raise Refused("only the service may ask for that")
        names = VERBS[verb]
        if set(request) != {"verb", *names}:
            raise Refused(f"{verb} takes {', '.join(names) or 'nothing'}")
        for name in names:
            if not ARGUMENTS[name](request[name]):
                raise Refused(f"{name} is not what it must be")
        if not (is_ours or self._steward.users.is_member(self._peer, request["slug"])):
            raise Refused("you are no member of it")
        return request

    def _answer(self, request: dict[str, Any]) -> None:
        self._connection.settimeout(None)
        seconds = struct.pack("ll", 30, 0)  # who does not read what it asked for counts as gone
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
        verb = request.pop("verb")
        if verb == "run":
            self._run(**request)
        elif verb == "web":
            self._web(**request)
        elif verb == "end_steps":
            self._end_steps(**request)
        else:
            self._send({"done": getattr(self._steward, verb)(**request)})

    def _send(self, answer: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._connection.sendall(json.dumps(answer).encode() + b"\n")

    # --- what takes its time

    def _run(self, slug: str, step: str, arguments: list[str], seconds: float) -> None:
        try:
            words, folder, variables = self._steward.line(slug, step, arguments)
        except Refused as error:
            raise Refused(f"{step}: {error}") from error
        with self._steward.running(slug):
            process = self._steward.start(slug, folder, words, variables, seconds)
            self._send({"exit": self._attend(slug, process, seconds)})

    def _end_steps(self, slug: str) -> None:
        """Steps end with their caller: here is waited until they have, for as long as somebody waits for the answer."""
        while self._steward.runs_a_step(slug):
            if select.select([self._connection], [], [], LOOK_SECONDS)[0]:
                self._heard()
        self._send({"done": None})

    def _web(self, slug: str, port: int) -> None:
        if len(self._descriptors) != 1:
            raise Refused("web comes with one listening socket")
        steward, home = self._steward, self._steward.home(slug)
        uid = steward.uids.of(slug)
        with steward.serving(slug) as file:
            self._serves()
            os.dup2(self._descriptors[0], SOCKET_FD)
            launcher = Path(recipes.__file__).with_name("launch.py")
            words = [f"{home.venv}/bin/python", "-I", str(launcher), str(home.path), str(SOCKET_FD), str(int(port))]
            process = steward.start(slug, str(home.path), words, {"PATH": recipes.PATH, "LANG": "C.UTF-8"}, 0)
            assert process.stdout is not None
            logger = os.fork()
            if logger == 0:
                with contextlib.suppress(BaseException):
                    file.close()  # its lock says that the web process lives, and this may be here for longer
                    self._connection.close()
                    become(uid)
                    signal.signal(signal.SIGTERM, signal.SIG_IGN)
                    keep_log(process.stdout.fileno(), home.log / "web.log")
                os._exit(0)
            process.stdout.close()
            process.stdout = None
            json.dump({"request": os.getpid(), "cage": process.pid, "since": time.time()}, file)
            file.flush()
            self._send({"exit": self._attend(slug, process, None)})

    def _attend(self, slug: str, process: subprocess.Popen[bytes], seconds: float | None) -> int:
        """Until it ends, its caller is gone, its time is over, or its disk is full. Nothing of it is left then."""
        try:
            return self._watch(slug, process, seconds)
        finally:
            kill_cage(process)

    def _watch(self, slug: str, process: subprocess.Popen[bytes], seconds: float | None) -> int:
        began, killed_at, share = time.monotonic(), 0.0, self._steward.share(slug)
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection, selectors.EVENT_READ)
            selector.register(os.pidfd_open(process.pid), selectors.EVENT_READ)
            if process.stdout:
                selector.register(process.stdout, selectors.EVENT_READ)
            while process.poll() is None:
                for key, _ in selector.select(0.5):
                    if key.fileobj is self._connection:
                        self._ending |= bool(self._heard())
                    elif process.stdout and key.fileobj is process.stdout:
                        if not (chunk := os.read(process.stdout.fileno(), REQUEST_BYTES)):
                            selector.unregister(process.stdout)
                        rest = self._say(rest + chunk)
                now = time.monotonic()
                if self._ending and not killed_at:
                    end_cage(process)
                    killed_at = now + GRACE_SECONDS
                if killed_at and now > killed_at:
                    kill_cage(process)
                if seconds is not None and now > began + seconds:
                    raise Refused(f"it took longer than {seconds:g} seconds, and was ended")
                if used_up := share.used_up():
                    raise Refused(f"{used_up}, and was ended")
        if process.stdout:
            rest = self._say(rest + _left_in(process.stdout.fileno()))
            self._say(rest + b"\n" if rest else b"")
        return int(process.returncode)

    def _heard(self) -> bytes:
        """The only thing that is said after a request is: end it."""
        found = self._connection.recv(100)
        if not found:
            raise Refused("its caller is gone")
        return found

    def _say(self, text: bytes) -> bytes:
        """Sends the lines, and returns what is no whole one yet."""
        *lines, rest = text.split(b"\n")
        for line in lines:
            self._send({"line": line[:LINE_BYTES].decode(errors="replace")})
        if len(rest) > LINE_BYTES:
            return self._say(rest[:LINE_BYTES] + b"\n" + rest[LINE_BYTES:])
        return rest
