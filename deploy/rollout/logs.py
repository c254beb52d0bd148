"""Shows the logs of all hosts: their last lines, or as they grow, until Ctrl-C."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import paramiko

from rollout import report
from rollout.beside import side_by_side
from rollout.errors import HostFailed
from rollout.host import Host

BEAT_SECONDS: Final = 3.0  # remote/follow.sh ends when it hears nothing for longer

_printing = threading.Lock()


def last(hosts: Sequence[Host], lines: int) -> None:
    for host, text in side_by_side(hosts, lambda host: host.ask("logs.sh", str(lines))).items():
        for line in text.splitlines():
            _show(host, line)


def follow(hosts: Sequence[Host], lines: int) -> None:
    """Returns when it is interrupted; an error when the last host was lost."""
    over = threading.Event()
    channels = {host: _start(host, lines) for host in hosts}
    beating = threading.Thread(target=_beat, args=(list(channels.values()), over), daemon=True)
    beating.start()
    try:
        side_by_side(hosts, lambda host: _read(host, channels[host], over), may_be_left=True)
        raise HostFailed("no host is left")
    except KeyboardInterrupt:
        pass
    finally:
        over.set()
        for channel in channels.values():
            channel.close()


def _start(host: Host, lines: int) -> paramiko.Channel:
    try:
        return host.start("follow.sh", str(lines))
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise HostFailed(f"{host}: its logs cannot be followed: {error or type(error).__name__}") from error


def _read(host: Host, channel: paramiko.Channel, over: threading.Event) -> None:
    channel.settimeout(None)
    with channel.makefile("rb") as lines:
        for line in lines:
            _show(host, line.decode(errors="replace").rstrip("\n"))
    if not over.is_set():
        why = channel.makefile_stderr("rb").read().decode(errors="replace").strip()
        report.warning(f"{host}: its logs are not followed any more{why and f': {why}'}")


def _beat(channels: Sequence[paramiko.Channel], over: threading.Event) -> None:
    while not over.wait(BEAT_SECONDS):
        for channel in channels:
            with suppress(OSError, EOFError, paramiko.SSHException):
                channel.sendall(b"\n")


def _show(host: Host, line: str) -> None:
    with _printing:
        print(f"{host} {line}", flush=True)
