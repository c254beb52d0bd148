"""What an action on one workspace works with: its record, its hands, and whom it tells."""

from dataclasses import dataclass
from typing import Protocol

from service.errors import SandboxError
from service.workspaces.hands import Ended, Facts, Hands, Speaker
from service.workspaces.mirror import Mirror
from service.workspaces.nginx import Addresses, write_page
from service.workspaces.places import Places
from service.workspaces.postgres import Postgres
from service.workspaces.record import Shelf, Workspace
from service.workspaces.statuses import NO_STATUSES, Statuses

LAST_LINES = 12


class StepFailed(SandboxError):
    """A step did not come to its end; the message is for the person."""


class Told(Speaker, Protocol):
    """A task's Context."""

    uid: str

    def progress(self, fraction: float | None = None, message: str = "") -> None: ...


@dataclass(frozen=True)
class Plan:
    """What the installation has settled for all workspaces."""

    places: Places
    site: Addresses
    mirror: Mirror
    hands: Hands
    pythons: tuple[str, ...] = ("python3",)
    database: str = "copy"
    postgres: Postgres | None = None
    most: int = 50
    most_building: int = 4
    idle_days: float = 7.0
    expire_days: float = 0.0  # never
    disk_mb: int = 4096
    statuses: Statuses = NO_STATUSES

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.places.records)


class Work:
    def __init__(self, plan: Plan, record: Workspace, told: Told, *, take_over: bool = False) -> None:
        self.plan = plan
        self.record = record
        self.told = told
        self.take_over = take_over
        self._facts: Facts | None = None

    @property
    def slug(self) -> str:
        return self.record.slug

    @property
    def hands(self) -> Hands:
        return self.plan.hands

    @property
    def mirror(self) -> Mirror:
        return self.plan.mirror

    @property
    def facts(self) -> Facts:
        """As last seen."""
        if self._facts is None:
            self._facts = self.hands.facts(self.slug)
        return self._facts

    def look_again(self) -> Facts:
        self._facts = None
        return self.facts

    def save(self) -> None:
        self.plan.shelf.write(self.record)
        write_page(self.plan.places, self.record)

    def attempt(self, step: str, *arguments: str | int, seconds: float) -> Ended:
        ended = self.hands.run(self.told, self.slug, step, *arguments, seconds=seconds)
        self._facts = None
        return ended

    def run(self, step: str, *arguments: str | int, seconds: float) -> Ended:
        """Raises StepFailed, with the last lines, unless it went well."""
        ended = self.attempt(step, *arguments, seconds=seconds)
        if ended.status:
            raise StepFailed(f"{step} failed: {last_lines(ended.output) or f'status {ended.status}'}")
        return ended


def last_lines(text: str) -> str:
    return "\n".join(line for line in text.strip().splitlines()[-LAST_LINES:] if line.strip())
