"""The only module that speaks ssh. A host asks (reads) and changes; each script runs under a time-out on the host.

A host whose key is not known is refused. A link that is cut is noticed: keepalives are sent, and what is sent must be
acknowledged; every wait for an answer has an end. What a host printed last stands in the error.

Who logs in as another user than root becomes root by sudo. A password that sudo wants stands in the first line of
standard input, where sudo reads it; whatever the script reads comes after it.

A change takes a second lock on the host, `step`, and asks whether the lock of the deploy is still ours: so it waits for
what a killed client left running, and a client that lost its lock changes nothing (remote/step.sh). What changes a host
without the lock of a deploy, `setup` and the index, takes a second lock of its own (remote/setup_step.sh).
"""

import shlex
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import paramiko
from fabric import Connection

from rollout import beside
from rollout.errors import DeployError, HostFailed, UsageError
from rollout.stage import Stage
from rollout.sudo import Password

ROOT: Final = "/srv/sandbox"
REMOTE: Final = Path(__file__).parents[1] / "remote"
CONNECT_SECONDS: Final = 15
KEEPALIVE_SECONDS: Final = 5
UNANSWERED_SECONDS: Final = 20
SEND_BYTES: Final = 1 << 18  # what the lock's holder is to hear must not wait behind a long upload
STEP_SECONDS: Final = 120  # for what a killed client left running
MARGIN_SECONDS: Final = 15
LAST_LINES: Final = 30
BASH: Final = ("bash", "--norc", "-euo", "pipefail", "-c")
# A script in Python is the first word.
BY_PYTHON: Final = """\
[ -x "$PYTHON" ] || {
    echo "there is no $PYTHON here; \\`python\\` in the stage's file names the hosts' Python" >&2
    exit 127
}
exec "$PYTHON" -I -B -c "$@"
"""
BLOCK: Final = 1 << 16


class Host:
    def __init__(self, address: str, stage: Stage, password: Password) -> None:
        self.address = address
        self.token = ""  # of the lock that is held (lock.py)
        self.hidden: tuple[str, ...] = ()  # what no error may show
        self._python = stage.python
        self._password = password
        self._sudo: tuple[str, ...] = ()
        self._typed = b""  # what sudo reads before the script does
        login = {"key_filename": str(Path(stage.identity).expanduser())} if stage.identity else {}
        self._connection = Connection(address, connect_timeout=CONNECT_SECONDS, connect_kwargs=login)
        client = self._connection.client
        client.load_system_host_keys()
        if stage.known_hosts:
            known = stage.folder / Path(stage.known_hosts).expanduser()
            try:
                client.load_host_keys(str(known))
            except (OSError, ValueError) as error:
                raise UsageError(f"known_hosts of the stage {stage.name} cannot be read: {known}: {error}") from error
        client.set_missing_host_key_policy(paramiko.RejectPolicy())

    def __str__(self) -> str:
        return self._connection.host if self._connection.port == 22 else self.address.rpartition("@")[2]

    def open(self) -> None:
        try:
            self._connection.open()
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise HostFailed(f"{self}: no connection: {error or type(error).__name__}") from error
        transport = self._connection.transport
        transport.set_keepalive(KEEPALIVE_SECONDS)
        transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_SECONDS * 1000)
        self._become_root()

    def _become_root(self) -> None:
        """Without a remembered password (-k), so that it is known whether sudo reads one: no script may find it."""
        if self._connection.user == "root":
            return
        self._sudo, self._typed = ("sudo", "-k", "-n", "--"), b""
        if self._try_sudo() is None:
            return
        password = self._password.get()
        self.hidden += (password,)
        self._sudo, self._typed = ("sudo", "-k", "-S", "-p", "", "--"), f"{password}\n".encode()
        if complaint := self._try_sudo():
            raise HostFailed(f"{self}: {self._connection.user} cannot become root; sudo says:\n{complaint}")

    def _try_sudo(self) -> str | None:
        """What it complains of."""
        try:
            code, output, errors = self._exchange(shlex.join([*self._sudo, "true"]), b"", CONNECT_SECONDS)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise HostFailed(f"{self}: no answer of sudo: {error or type(error).__name__}") from error
        return None if code == 0 else self._last_lines(errors + output) or "    nothing"

    def close(self) -> None:
        self._connection.close()

    # --- commands ---------------------------------------------------------------------------------

    def ask(self, script: str, *words: str, user: str = "root", stdin: bytes = b"", seconds: int = 30) -> str:
        """Runs a script of remote/ that changes nothing, and returns what it printed."""
        return self._run(script, self._command(script, words, user, seconds), stdin, seconds)

    def change(self, script: str, *words: str, user: str = "root", stdin: bytes = b"", seconds: int = 60) -> str:
        """The same for one that changes something: one at a time, and only while the lock is ours."""
        self._refuse_what_may_not_change(script)
        seconds += STEP_SECONDS
        return self._run(script, self._command(script, words, user, seconds, before=("step.sh", user)), stdin, seconds)

    def set_up(self, script: str, *words: str, stdin: bytes = b"", seconds: int = 60) -> str:
        """The same for one that needs no lock of a deploy, as root."""
        seconds += STEP_SECONDS
        return self._run(
            script, self._command(script, words, "root", seconds, before=("setup_step.sh",)), stdin, seconds
        )

    def change_by(
        self, text: str, *words: str, name: str, user: str = "root", stdin: bytes = b"", seconds: int = 60
    ) -> str:
        """The same for a script that is given as its text."""
        self._refuse_what_may_not_change(name)
        seconds += STEP_SECONDS
        return self._run(
            name, self._command(name, words, user, seconds, before=("step.sh", user), text=text), stdin, seconds
        )

    def _refuse_what_may_not_change(self, name: str) -> None:
        if not self.token:
            raise DeployError(f"{self}: {name} needs the lock")
        if beside.is_too_late():
            raise DeployError(f"{self}: {name} comes too late: the command was interrupted")

    def start(self, script: str, *words: str) -> paramiko.Channel:
        """Starts a script that lives as long as its channel."""
        channel = self._execute(self._command(script, words, "root", None))
        if self._typed:
            channel.sendall(self._typed)
        return channel

    def _command(
        self,
        script: str,
        words: Iterable[str],
        user: str,
        seconds: int | None,
        *,
        before: Sequence[str] = (),
        text: str = "",
    ) -> str:
        text = text or (REMOTE / script).read_text()
        if script.endswith(".py"):
            words = [text, *words]
            text = BY_PYTHON
        command = ["env", f"ROOT={ROOT}", f"TOKEN={self.token}", f"PYTHON={self._python}", "LC_ALL=C.UTF-8"]
        if before:
            command += [*BASH, (REMOTE / before[0]).read_text(), *before]
        elif user != "root":
            command += ["runuser", "-u", user, "--"]
        limit = ("timeout", "-k", "2", str(seconds)) if seconds else ()
        return shlex.join([*self._sudo, *limit, *command, *BASH, text, script, *words])

    def _run(self, script: str, command: str, stdin: bytes, seconds: int) -> str:
        try:
            code, output, errors = self._exchange(command, stdin, seconds)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise HostFailed(f"{self}: the link was lost during {script}: {error or type(error).__name__}") from error
        if code != 0:
            raise HostFailed(f"{self}: {_ended(script, code, seconds)}\n{self._last_lines(errors + output)}", code)
        return output.decode(errors="replace")

    def _exchange(self, command: str, stdin: bytes, seconds: int) -> tuple[int, bytes, bytes]:
        """The exit code, and what was printed to both outputs."""
        with self._execute(command) as channel:
            channel.settimeout(seconds + MARGIN_SECONDS)
            try:
                if self._typed or stdin:
                    channel.sendall(self._typed + stdin)
                channel.shutdown_write()
            except OSError:
                if not channel.closed:
                    raise  # else a script that has ended before it had read all says why
            output, errors = _read_all(channel)
            channel.status_event.wait(MARGIN_SECONDS)
            return channel.exit_status, output, errors

    def _last_lines(self, output: bytes) -> str:
        text = output.decode(errors="replace").rstrip()
        for secret in self.hidden:
            text = text.replace(secret, "***")
        return "\n".join(f"    {line}" for line in text.splitlines()[-LAST_LINES:])

    def _execute(self, command: str) -> paramiko.Channel:
        channel = self._connection.transport.open_session(timeout=CONNECT_SECONDS)
        channel.settimeout(CONNECT_SECONDS)
        channel.exec_command(command)
        return channel


def _read_all(channel: paramiko.Channel) -> tuple[bytes, bytes]:
    """Both outputs, to their ends; a flood of one does not hold up the other."""
    output, errors = b"", b""
    with ThreadPoolExecutor(1) as beside:
        reading = beside.submit(_read, channel.recv_stderr)
        output = _read(channel.recv)
        errors = reading.result()
    return output, errors


def _read(receive: Callable[[int], bytes]) -> bytes:
    blocks = []
    while block := receive(BLOCK):
        blocks.append(block)
    return b"".join(blocks)


def _ended(script: str, code: int, seconds: int) -> str:
    if code in (124, 137):
        return f"{script} took longer than {seconds} s, and was ended"
    if code == -1:
        return f"the link was lost during {script}"
    return f"{script} ended with {code}"
