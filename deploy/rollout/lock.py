"""The lock of a deploy: on each host a process holds it for as long as it hears from us (remote/hold.sh).

Nothing is left to be removed by hand: a killed client's channel ends, a cut link falls silent, and the kernel frees the
lock with its holder. Hosts are locked in the order of their names, so that two clients never wait for each other.
"""

import json
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import paramiko

from rollout import report
from rollout.errors import DeployError, HostFailed
from rollout.host import Host

BEAT_SECONDS: Final = 3.0
SILENCE_SECONDS: Final = 15  # after which the holder gives up
TELL_SECONDS: Final = 10


@contextmanager
def held(hosts: Sequence[Host], purpose: str, wait_seconds: int = 0) -> Iterator[None]:
    token = secrets.token_hex(8)
    channels: dict[Host, paramiko.Channel] = {}
    over = threading.Event()
    beating = threading.Thread(target=_beat, args=(channels, over), daemon=True)
    beating.start()
    try:
        for host in sorted(hosts, key=str):
            channels[host] = _take(host, token, purpose, wait_seconds, channels)
            host.token = token
        yield
    finally:
        over.set()
        for host, channel in list(channels.items()):
            host.token = ""
            with suppress(OSError, EOFError, paramiko.SSHException):
                channel.sendall(b"done\n")
                channel.shutdown_write()
                channel.recv(1)  # the holder has ended when its output does: the next one finds the lock free
                channel.close()


def _take(
    host: Host, token: str, purpose: str, wait_seconds: int, channels: dict[Host, paramiko.Channel]
) -> paramiko.Channel:
    who = json.dumps({"by": report.operator(), "for": purpose})
    words = (token, who, str(wait_seconds), str(SILENCE_SECONDS))
    try:
        channel = channels[host] = host.start("hold.sh", *words)
        channel.settimeout(wait_seconds + TELL_SECONDS)
        with channel.makefile("r") as lines:
            answer = lines.readline()
            if answer.startswith("held"):
                return channel
            if answer.startswith("busy"):
                raise DeployError(f"{host}: {_holder(_rest(lines))}")
            said = answer + _rest(lines) + _rest(channel.makefile_stderr("r"))
            raise HostFailed(f"{host}: it cannot be locked: {said.strip()}")
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise HostFailed(f"{host}: no answer to the wish for the lock: {error or type(error).__name__}") from error


def _rest(lines: paramiko.channel.ChannelFile) -> str:
    rest: bytes = lines.read()  # whatever its mode
    return rest.decode(errors="replace")


def _holder(text: str) -> str:
    try:
        facts = json.loads(text.splitlines()[1])
        return (
            f"{facts['by']} has held the lock since {facts['since']}, for: {facts['for']}. --lock-wait S waits for it"
        )
    except (ValueError, IndexError, KeyError):
        return "somebody has just taken the lock. --lock-wait S waits for it"


def _beat(channels: dict[Host, paramiko.Channel], over: threading.Event) -> None:
    lost: set[Host] = set()
    while not over.wait(BEAT_SECONDS):
        for host, channel in list(channels.items()):
            if host in lost:
                continue
            try:
                channel.sendall(b"\n")
            except (OSError, EOFError, paramiko.SSHException):
                lost.add(host)
                report.warning(f"{host}: the lock is lost; nothing more is changed there")
