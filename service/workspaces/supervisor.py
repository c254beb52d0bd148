"""The web processes of workspaces in plain mode, under a circusd of their own (second_circusd.py).

The files are the truth: one for each workspace that runs or sleeps, in a folder that circusd includes. It is started
when it is first needed, in a session of its own and without the service's environment; so nothing that happens to the
service touches it. It holds each listening socket: connections wait through a restart of the process behind it.
"""

import os
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from service.workspaces import launch, nginx, ports, recipes
from service.workspaces.hands import HandsFailed, WebService
from service.workspaces.places import Places
from service.workspaces.second_control import SecondCircusd

LAUNCHER: Final = "launch.py"
NGINX_SECONDS: Final = 60.0
TAKEN_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.05
ROOM_FOR_SLUG: Final = 100 - len("/sockets/.sock") - 31

MAIN: Final = """\
[circus]
endpoint = ipc://{run}/control.sock
pubsub_endpoint = ipc://{run}/events.sock
multicast_endpoint =
include_dir = {run}/conf.d
check_delay = 1
umask = 0027
logoutput = {run}/circus.log
"""
WORKSPACE: Final = """\
[socket:{slug}]
{listen}
backlog = 128

[watcher:{slug}]
cmd = {command}
working_dir = {folder}
use_sockets = True
{state}
graceful_timeout = 5
stop_children = False
rlimit_as = {memory}
stdout_stream.class = FileStream
stdout_stream.filename = {log}
stdout_stream.max_bytes = 1000000
stdout_stream.backup_count = 1
stderr_stream.class = FileStream
stderr_stream.filename = {log}
stderr_stream.max_bytes = 1000000
stderr_stream.backup_count = 1

[env:{slug}]
PATH = {path}
LANG = C.UTF-8
SANDBOX_WORKSPACE_HOME = {home}
SANDBOX_WORKSPACE_WEB = 1
"""
BY_ITSELF: Final = '"{home}/venv/bin/python" -I "{run}/launch.py" "{home}" $(circus.sockets.{slug}) {inner}'
BY_THE_STEWARD: Final = "{program} {slug} $(circus.sockets.{slug}) {inner}"  # which keeps the log of the web process
NGINX: Final = """\
[watcher:nginx]
cmd = "{program}" -p "{run}/nginx" -c "{run}/nginx.conf" -g "daemon off;"
stop_signal = QUIT
graceful_timeout = 5
stdout_stream.class = FileStream
stdout_stream.filename = {run}/nginx.log
stderr_stream.class = FileStream
stderr_stream.filename = {run}/nginx.log

[env:nginx]
PATH = {path}
"""


class WebProcesses:
    def __init__(
        self,
        places: Places,
        *,
        site: nginx.Addresses,
        memory_mb: int,
        program: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        """`program` tells the steward's, if there is one: no process of a workspace is this user's then."""
        self._program = program
        self._places = places
        self._circusd = SecondCircusd(places.run, places.homes)
        self._site = site
        self._memory = memory_mb * 2**20

    def keep_running(self, slug: str, port: int) -> None:
        self._place(slug, port, "autostart = True")
        started = self._order("start", name=slug, known=("not found",))  # circus leaves what could not be started once
        if started["status"] == "error":
            raise HandsFailed(f"{slug} cannot be started: somebody else listens at 127.0.0.1:{port}")
        if self._site.program:
            self._wait_for_nginx()

    def let_sleep(self, slug: str, port: int) -> None:
        self._place(slug, port, "on_demand = True")

    def remove(self, slug: str) -> None:
        """circus cannot take away a socket together with what listens there: first the one, then the other."""
        file = self._file(slug)
        if self._circusd.is_alive():
            with self._circusd.turn():
                self._circusd.call("rm", name=slug, waiting=True, known=("not found",))
                file.unlink(missing_ok=True)
                self._circusd.call("reloadconfig", waiting=True)
        else:
            file.unlink(missing_ok=True)
        self._places.socket(slug).unlink(missing_ok=True)
        logs = self._places.run.glob(f"{slug}.log*")  # circus keeps an older one
        for path in (*logs, _draft(file)):
            path.unlink(missing_ok=True)

    def wake(self) -> bool:
        """Starts what ran before a halt, a kill, or the host's start, nginx too. Was it started now?"""
        return any(self._conf.glob("*.ini")) and self._ensure()

    def restart(self, slug: str) -> None:
        self._order("restart", name=slug)

    def status(self, slug: str) -> WebService:
        """Of what is there now; a circusd that was killed is not started by a question."""
        try:
            text = self._file(slug).read_text()
        except FileNotFoundError:
            return WebService("stopped")
        if pid := self._pid(slug):
            return WebService("active", pid)
        return WebService("asleep" if "on_demand" in text else "active")

    def left(self, slug: str) -> list[str]:
        """What a removal should have taken away, in words."""
        found = ["its socket"] if self._places.socket(slug).exists() else []
        return [*found, "its entry with the supervisor"] if self._file(slug).exists() else found

    def _pid(self, slug: str) -> int:
        """0 if there is none, or nobody to ask."""
        if not self._circusd.is_alive():
            return 0
        try:
            pids = self._circusd.call("list", name=slug, known=("not found",)).get("pids") or [0]
        except HandsFailed:
            if self._circusd.is_alive():
                raise
            return 0
        return int(pids[0])

    def _wait_for_nginx(self) -> None:
        begun = time.monotonic()
        while not self._circusd.nginx_listens():
            self._circusd.end_orphans_of_nginx()
            waited, port = time.monotonic() - begun, self._site.port
            if waited > TAKEN_SECONDS and not ports.is_free(port) and not self._circusd.nginx_listens():
                raise HandsFailed(f"nginx does not serve: somebody else listens at 127.0.0.1:{port}")
            if waited > NGINX_SECONDS:
                raise HandsFailed(f"nginx does not serve: see {self._places.run}/nginx.log")
            time.sleep(LOOK_SECONDS)

    # --- its files ----------------------------------------------------------------------------------

    @property
    def _conf(self) -> Path:
        return self._places.run / "conf.d"

    def _file(self, slug: str) -> Path:
        return self._conf / f"{slug}.ini"

    def _place(self, slug: str, port: int, state: str) -> None:
        home = self._places.home(slug)
        self._lay_out()
        if self._site.by_port:
            listen = f"host = 127.0.0.1\nport = {port}"
        else:
            # umask is decimal: owner and group may connect
            listen = f"path = {self._places.socket(slug)}\numask = 7\nreplace = True"
        run, program = self._places.run, shlex.join(self._program()) if self._program else ""
        command = (BY_THE_STEWARD if program else BY_ITSELF).format(
            program=program, home=home.path, run=run, slug=slug, inner=port + 1
        )
        folder, log = (run, run / f"{slug}.log") if program else (home.path, home.log / "web.log")
        text = WORKSPACE.format(
            slug=slug, listen=listen, command=command, folder=folder, log=log, home=home.path, state=state,
            memory=self._memory, path=recipes.PATH,
        )  # fmt: skip
        _write(self._file(slug), text)
        self._order("reloadconfig")

    def _order(self, command: str, **what: Any) -> Any:
        """Starts circusd if need be. One that was killed may seem alive for a moment: then it is told once more."""
        for is_last in (False, True):
            self._ensure()
            try:
                with self._circusd.turn():
                    return self._circusd.call(command, waiting=True, **what)
            except HandsFailed:
                if is_last or self._circusd.is_alive():
                    raise
        raise AssertionError

    def _lay_out(self) -> None:
        places = self._places
        if len(str(places.root)) > ROOM_FOR_SLUG:
            raise HandsFailed(f"{places.root} is too long a path for the sockets of workspaces: choose a shorter one")
        for folder in (places.run, self._conf, places.sockets, places.pages):
            folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        _write(places.run / "circus.ini", MAIN.format(run=places.run))
        _write(places.run / LAUNCHER, Path(launch.__file__).read_text())
        if self._site.program:
            _write(places.run / "site.conf", self._site.text(places))
            (places.run / "nginx").mkdir(exist_ok=True)
            _write(places.run / "nginx.conf", nginx.own(places))
            _write(
                self._conf / "nginx.ini", NGINX.format(program=self._site.program, run=places.run, path=recipes.PATH)
            )

    def _ensure(self) -> bool:
        """Returns whether it was started now."""
        if self._circusd.is_alive():
            return False
        with self._circusd.turn():
            if self._circusd.is_alive():
                return False
            self._lay_out()
            self._circusd.start()
            return True


def own_nginx() -> str:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or ""


def _write(file: Path, text: str) -> None:
    with suppress(FileNotFoundError):
        if file.read_text() == text:
            return
    _draft(file).write_text(text)
    os.rename(_draft(file), file)


def _draft(file: Path) -> Path:
    return file.with_name(f".{file.name}.new")
