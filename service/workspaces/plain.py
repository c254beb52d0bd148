"""The hands of an ordinary user on one's own machine: everything is done as this user. Nothing is isolated."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from service.workspaces import dotenv, looking, names, recipes, whose
from service.workspaces.hands import Ended, Facts, HandsFailed, Speaker, WebService
from service.workspaces.places import Home, Places
from service.workspaces.supervisor import WebProcesses

KILL_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.02
SHARED: Final = "shared"
LIMITED: Final = 'ulimit -v "$1"; ulimit -f "$2"; shift 2; exec "$@"'
BLOCKS_A_MB: Final = 2048  # `ulimit -f` counts in 512 bytes


@dataclass(frozen=True)
class Allowance:
    memory_mb: int
    disk_mb: int


class PlainHands:
    def __init__(
        self, places: Places, web: WebProcesses, *, origin: str, wheels: str, database: str, limits: Allowance
    ) -> None:
        """`origin` is what a person's own push goes to: without secrets."""
        self._places = places
        self._web = web
        self._origin = origin
        self._wheels = wheels
        self._database = database
        self._limits = limits

    # --- user and folders ---------------------------------------------------------------------------

    def homes(self) -> list[str]:
        folder = self._places.homes
        return os.listdir(folder) if folder.is_dir() else []

    def make_user(self, slug: str) -> None:
        """All workspaces are this user's."""

    def remove_user(self, slug: str) -> None:
        pass

    def make_folders(self, slug: str) -> None:
        home = self._home(slug)
        for folder in (self._places.homes, home.path, home.venvs, home.data, home.static, home.log):
            folder.mkdir(parents=True, exist_ok=True, mode=0o750)

    def remove_folders(self, slug: str) -> None:
        """First renamed: what a killed removal leaves is no workspace any more. `rm` minds no depth."""
        home = self._home(slug)
        self.unlink_media(slug)
        doomed = home.path.with_name(f".{slug}.gone")
        if home.path.is_symlink():
            home.path.unlink()
        for _ in range(2):
            if doomed.exists():
                subprocess.run(["chmod", "-R", "u+rwX", "--", str(doomed)], stderr=subprocess.DEVNULL, check=False)
                done = subprocess.run(["rm", "-rf", "--", str(doomed)], capture_output=True, text=True, check=False)
                if done.returncode:
                    raise HandsFailed(f"its folder cannot be removed: {done.stderr.strip()[-500:]}")
            if home.path.exists():
                home.path.rename(doomed)

    def facts(self, slug: str) -> Facts:
        return Facts(user=True, **looking.look(self._home(slug)))

    def disk_mb(self, slug: str) -> int:
        return looking.disk_mb(self._home(slug))

    def last_used(self, slug: str) -> float | None:
        return looking.last_used(self._home(slug))

    def web_log(self, slug: str) -> str:
        return looking.end_of_log(self._home(slug))

    # --- what is run --------------------------------------------------------------------------------

    def run(self, speaker: Speaker, slug: str, step: str, *arguments: str | int, seconds: float) -> Ended:
        words = tuple(map(str, arguments))
        asked = recipes.Asked(self._places, self._home(slug), words, self._origin, self._wheels)
        try:
            line = recipes.line(step, asked)
            done = speaker.run(
                ["/bin/sh", "-c", LIMITED, "sh", *self._bounds(), *line.words],
                cwd=line.folder,
                env=dict(line.environment),
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise HandsFailed(f"{step} took more than {seconds:g} seconds") from error
        except (OSError, ValueError) as error:
            raise HandsFailed(f"{step} cannot be run: {error}") from error
        return Ended(done.returncode, done.stdout)

    def end_steps(self, slug: str) -> None:
        self._end(slug, lambda: whose.marked(self._home(slug).path, whose.STEPS))

    def _bounds(self) -> tuple[str, str]:
        return str(self._limits.memory_mb * 1024), str(self._limits.disk_mb * BLOCKS_A_MB)

    # --- its data -----------------------------------------------------------------------------------

    def write_env(self, slug: str, values: Mapping[str, str]) -> None:
        shared = {"DATABASE_URL": f"sqlite:///{self._places.database}"} if self._database == SHARED else {}
        try:
            dotenv.lay(self._home(slug), {**shared, **values})
        except ValueError as error:
            raise HandsFailed(f"{self._home(slug).env} cannot be read: {error}") from error

    def link_media(self, slug: str) -> None:
        self._places.shared_media.mkdir(parents=True, exist_ok=True)
        home = self._home(slug)
        if not home.media.is_symlink():
            home.media.symlink_to(self._places.shared_media)

    def unlink_media(self, slug: str) -> None:
        media = self._home(slug).media
        if os.path.islink(media):
            media.unlink()

    def grant(self, slug: str, login: str) -> None:
        raise HandsFailed("in plain mode all workspaces are one user's: nobody else can be given access")

    def revoke(self, slug: str, login: str) -> None:
        pass

    # --- its processes ------------------------------------------------------------------------------

    def wake(self) -> bool:
        return self._web.wake()

    def start(self, slug: str, port: int = 0) -> None:
        self._web.keep_running(self._home(slug).path.name, port)

    def sleep(self, slug: str, port: int = 0) -> None:
        self._web.let_sleep(self._home(slug).path.name, port)

    def stop(self, slug: str) -> None:
        self._web.remove(self._home(slug).path.name)

    def restart(self, slug: str) -> None:
        self._web.restart(self._home(slug).path.name)

    def status(self, slug: str) -> WebService:
        return self._web.status(self._home(slug).path.name)

    def processes(self, slug: str) -> list[int]:
        return whose.marked(self._home(slug).path)

    def kill(self, slug: str) -> None:
        self._end(slug, lambda: self.processes(slug))

    def _end(self, slug: str, find: Callable[[], list[int]]) -> None:
        until = time.monotonic() + KILL_SECONDS
        while pids := find():
            if time.monotonic() > until:
                raise HandsFailed(f"processes of {slug} cannot be ended: {', '.join(map(str, pids))}")
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(LOOK_SECONDS)

    def left(self, slug: str) -> list[str]:
        home = self._home(slug)
        doomed = home.path.with_name(f".{slug}.gone")
        found = [f"the folder {path}" for path in (home.path, doomed) if os.path.lexists(path)]
        found += [f"the process {pid}" for pid in self.processes(slug)]
        return [*found, *self._web.left(slug)]

    def _home(self, slug: str) -> Home:
        if not names.is_slug(slug):
            raise HandsFailed(f"{slug!r} names no workspace")
        return self._places.home(slug)
