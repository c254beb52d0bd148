"""What the supervisor of the workspaces starts for each of them: becomes the project's web process.

A copy of this file lies beside the sockets, and the workspace's own Python runs it: it outlives every release of the
service. It needs the standard library alone.

    python launch.py HOME DESCRIPTOR PORT

The descriptor is the listening socket. A gunicorn accepts on it by itself. Anything else listens at PORT, as its
Procfile says, and this process passes connections on: they wait while the project's own process starts. When it is to
end, it takes no new ones, and gives those that have asked a moment for their answers, before it passes TERM on.
"""

import asyncio
import math
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

ANSWER_SECONDS = 2  # for those who have asked before the end
QUIET_SECONDS = 0.1  # after which an answer is taken for whole
TERM_SECONDS = 4  # before the supervisor kills this process, and then no more finds what it has started
PATH = "/usr/local/bin:/usr/bin:/bin"
LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*")
WEB = re.compile(r"^web:[ \t]*(\S.*?)\s*$", re.MULTILINE)
# By its access log is seen when it was last asked: ours comes last, and so counts.
GUNICORN = 'used=$2; eval "set -- $1"; exec env "$@" --access-logfile "$used"'
OPERATORS = re.compile(r"[;&|<>`\n]|\$\(")
QUOTED = re.compile(r"'[^']*'|\\.", re.DOTALL)
SETTINGS = re.compile(r"""DJANGO_SETTINGS_MODULE["'],\s*["']([\w.]+)["']""")
FIRST_DESCRIPTOR = 3
EARLY_SECONDS = 5.0
PAUSE_SECONDS = 3.0
START_SECONDS = 60.0
LEFT_SECONDS = 10.0  # for what is killed to be gone
USED_BYTES = 1_000_000
LOOK_SECONDS = 0.01
RETRY_SECONDS = 0.1
CHUNK = 64 * 1024
MOST_TEMPLATES = 500
LISTENS = "0A"
# The addresses at which a connection to 127.0.0.1 is taken, in the order in which the kernel looks for a listener.
TAKING = ("127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0", "::ffff:0.0.0.0", "::")


def main() -> None:
    home, descriptor, port = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    os.dup2(1, 2)  # the supervisor writes one log: two streams would each roll it away under the other
    os.dup2(descriptor, FIRST_DESCRIPTOR, inheritable=True)
    os.closerange(FIRST_DESCRIPTOR + 1, 65536)  # the sockets of the neighbours
    used = home / "log" / "access.log"
    bound(used)
    wait_after_an_early_death(home / "log" / "started")
    environment = surroundings(home, port)
    end_what_is_left(environment)
    os.chdir(home / "code")
    command = web_command(home)
    if command is None:
        sys.exit("there is no `web:` in a Procfile, no wsgi.py for gunicorn and no manage.py: nothing can be started")
    if accepts_by_itself(command):
        environment |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
        os.execvpe("/bin/sh", ["sh", "-c", GUNICORN, "sh", command, str(used)], environment)
    at_home = f"--bind 127.0.0.1:{port}"  # else a gunicorn behind `&&` or `exec` listens at all addresses
    environment["GUNICORN_CMD_ARGS"] = f"{at_home} {environment.get('GUNICORN_CMD_ARGS', '')}"
    pass_on(command, environment, int(port), used)


def wait_after_an_early_death(mark: Path) -> None:
    """Something that cannot start is tried every few seconds, not all the time."""
    with suppress(OSError):
        if time.time() - mark.stat().st_mtime < EARLY_SECONDS:
            time.sleep(PAUSE_SECONDS)
    mark.touch()


def bound(used: Path) -> None:
    """When it was last written to is seen by it: that stays."""
    with suppress(OSError):
        found = used.stat()
        if found.st_size > USED_BYTES:
            os.truncate(used, 0)
            os.utime(used, ns=(found.st_atime_ns, found.st_mtime_ns))


def surroundings(home: Path, port: str) -> dict[str, str]:
    env = home / ".env"
    said = dotenv(env.read_text(encoding="utf-8")) if env.is_file() else {}
    return {
        **said,
        "PATH": f"{home / 'venv' / 'bin'}:{PATH}",
        "VIRTUAL_ENV": str(home / "venv"),
        "HOME": str(home / "data"),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "SANDBOX_WORKSPACE_HOME": str(home),
        "SANDBOX_WORKSPACE_WEB": "1",
        "SPT_NOENV": "1",  # setproctitle would write over the two above, by which its processes are found
        "PORT": port,
    }


def dotenv(text: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        if match and not line.lstrip().startswith("#"):
            value = match[2]
            if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
                value = re.sub(r"\\(.)", r"\1", value[1:-1]) if value[0] == '"' else value[1:-1]
            else:
                value = value.partition(" #")[0].rstrip()
            found[match[1]] = value
    return found


def web_command(home: Path) -> str | None:
    """`web:` of the Procfile; else gunicorn with what it restarts on; else Django's own server."""
    procfile = Path("Procfile")
    found = WEB.search(procfile.read_text(encoding="utf-8")) if procfile.is_file() else None
    if found:
        return found[1]
    application = wsgi_application()
    if application and (home / "venv" / "bin" / "gunicorn").exists():
        extra = " ".join(f"--reload-extra-file {quoted(path)}" for path in templates())
        return f"gunicorn --reload {extra} --workers 1 --threads 4 {application}"
    if Path("manage.py").is_file():
        return "python manage.py runserver 127.0.0.1:$PORT"
    return None


def wsgi_application() -> str | None:
    with suppress(OSError):
        found = SETTINGS.search(Path("manage.py").read_text(encoding="utf-8"))
        package = found[1].rpartition(".")[0] if found else ""
        if package and Path(*package.split("."), "wsgi.py").is_file():
            return f"{package}.wsgi:application"
    if Path("wsgi.py").is_file():
        return "wsgi:application"
    return None


def templates() -> list[Path]:
    """Django keeps templates in memory; gunicorn watches Python's files only."""
    found = (path for folder in Path().rglob("templates") for path in folder.rglob("*") if path.is_file())
    return [path for path, _ in zip(found, range(MOST_TEMPLATES), strict=False)]


def quoted(path: Path) -> str:
    text = str(path).replace("'", "'\\''")
    return f"'{text}'"


def accepts_by_itself(command: str) -> bool:
    """It must become gunicorn itself: the socket is meant for this process alone."""
    words = [word for word in command.split() if "=" not in word]
    return bool(words) and words[0].rpartition("/")[2] == "gunicorn" and not OPERATORS.search(QUOTED.sub("", command))


def pass_on(command: str, environment: dict[str, str], port: int, used: Path) -> None:
    child = subprocess.Popen(["/bin/sh", "-c", command], env=environment, close_fds=True, start_new_session=True)

    def kill(*_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)

    def end(*_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        hurry()

    signal.signal(signal.SIGALRM, kill)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        asyncio.run(serve(child, port, used, end))
    finally:
        end()
        with suppress(subprocess.TimeoutExpired):
            child.wait(5)
        kill()


def end_what_is_left(environment: dict[str, str]) -> None:
    """Of the project's processes before: one would listen at the port for ever, or work on with older code."""
    until = time.monotonic() + LEFT_SECONDS
    while (left := what_is_left(environment)) and time.monotonic() < until:
        for pid in left:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(LOOK_SECONDS)


def what_is_left(environment: dict[str, str]) -> list[int]:
    marks = {f"{name}={environment[name]}".encode() for name in ("SANDBOX_WORKSPACE_HOME", "SANDBOX_WORKSPACE_WEB")}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if marks <= {*(process / "environ").read_bytes().split(b"\0")} and int(process.name) != os.getpid():
                found.append(int(process.name))
    return found


def hurry() -> None:
    """What has not ended in time is killed."""
    if not signal.getitimer(signal.ITIMER_REAL)[0]:
        signal.alarm(TERM_SECONDS)


async def serve(child: "subprocess.Popen[bytes]", port: int, used: Path, end: Callable[[], None]) -> None:
    listener = socket.socket(fileno=FIRST_DESCRIPTOR)
    listener.setblocking(False)
    busy: dict[object, float] = {}  # of each connection, until when an answer is to be waited for

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = object()

        def asks() -> None:
            busy[me] = math.inf

        def is_answered() -> None:
            busy[me] = time.monotonic() + QUIET_SECONDS

        asks()
        used.touch()
        with suppress(OSError):
            there_reader, there_writer = await reach(child, port)
            there, back = flow(reader, there_writer, asks), flow(there_reader, writer, is_answered)
            await asyncio.gather(there, back, return_exceptions=True)
        writer.close()
        del busy[me]

    if listener.family == socket.AF_UNIX:
        keeps: dict[str, Any] = (
            {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        )  # else it would remove the file
        server = await asyncio.start_unix_server(meet, sock=listener, **keeps)
    else:
        server = await asyncio.start_server(meet, sock=listener)
    leaving = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, leaving.set)
    while child.poll() is None and not leaving.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(leaving.wait(), RETRY_SECONDS)
    hurry()
    server.close()  # who comes now waits for the next process
    until = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < until and any(each > time.monotonic() for each in busy.values()):
        await asyncio.sleep(QUIET_SECONDS / 10)
    end()
    while child.poll() is None:
        await asyncio.sleep(RETRY_SECONDS)


async def reach(child: "subprocess.Popen[bytes]", port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Waits while the project's process starts. Meanwhile a neighbour may listen at its port: nothing is sent there."""
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            if is_own(port):
                return reader, writer
            writer.close()
            raise ConnectionRefusedError(f"somebody else listens at {port}")
        except OSError:
            if child.poll() is not None or time.monotonic() > until:
                raise
            await asyncio.sleep(RETRY_SECONDS)


def is_own(port: int) -> bool:
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    if not tables[0].exists():  # no Linux: then there are no neighbours of other uids
        return True
    found = owners(port, "".join(table.read_text() for table in tables if table.exists()))
    return bool(found) and found <= {os.getuid(), 0}  # root's: so a port of a container is published


def owners(port: int, table: str) -> set[int]:
    """Whose the listener is that takes connections to 127.0.0.1 at a port, by the lines of /proc/net/tcp and tcp6."""
    found: dict[str, set[int]] = {}
    for line in table.splitlines():
        words = line.split()
        if len(words) > 7 and words[3] == LISTENS and words[1].endswith(f":{port:04X}"):
            found.setdefault(words[1].partition(":")[0], set()).add(int(words[7]))
    return next((found[address] for address in map(as_in_proc, TAKING) if address in found), set())


def as_in_proc(address: str) -> str:
    """Words of 32 bits of this machine's order."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed))


async def flow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[], None]) -> None:
    try:
        while chunk := await reader.read(CHUNK):
            note()
            writer.write(chunk)
            await writer.drain()
    finally:
        with suppress(OSError, RuntimeError):
            writer.write_eof()


if __name__ == "__main__":
    main()
