"""What the settings say about workspaces, as one plan."""

from service.settings import Settings
from service.tasks.declare import TaskType
from service.workspaces import actions, nginx, supervisor
from service.workspaces.hands import Hands
from service.workspaces.mirror import Mirror, Origin
from service.workspaces.places import Places
from service.workspaces.plain import Limits, PlainHands
from service.workspaces.postgres import Postgres
from service.workspaces.work import Plan


def types(settings: Settings) -> list[TaskType]:
    """The task types that act on workspaces; none unless they are on."""
    return actions.types(plan(settings)) if settings.workspace_git else []


def plan(settings: Settings) -> Plan:
    places = Places.under(settings.workspaces, settings.workspace_media)
    site = nginx.Addresses.at(settings.workspace_domain, supervisor.own_nginx())
    origin = Origin(settings.workspace_git, settings.workspace_key)
    return Plan(
        places=places,
        site=site,
        mirror=Mirror(places.mirror, origin),
        hands=_hands(settings, places, site, origin),
        pythons=settings.workspace_pythons,
        database=settings.workspace_database,
        postgres=Postgres(settings.workspace_database) if "://" in settings.workspace_database else None,
        most=settings.workspace_max,
        most_building=settings.workspace_building,
        idle_days=settings.workspace_idle_days,
        disk_mb=settings.workspace_disk_mb,
    )


def _hands(settings: Settings, places: Places, site: nginx.Addresses, origin: Origin) -> Hands:
    limits = Limits(memory_mb=settings.workspace_memory_mb, disk_mb=settings.workspace_disk_mb)
    return PlainHands(
        places,
        supervisor.WebProcesses(places, site=site, memory_mb=limits.memory_mb),
        origin=origin.without_secrets,
        wheels=settings.workspace_index,
        database=settings.workspace_database,
        limits=limits,
    )
