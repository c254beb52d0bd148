"""What the settings say about workspaces, as one plan."""

import os
import pwd
from functools import partial
from typing import Final

from service.errors import SettingsError
from service.settings import AUTO, PLAIN, Settings
from service.tasks.declare import TaskType
from service.workspaces import actions, nginx, supervisor
from service.workspaces.hands import Hands
from service.workspaces.mirror import Mirror, Origin
from service.workspaces.places import Places
from service.workspaces.plain import SHARED, Allowance, PlainHands
from service.workspaces.postgres import Postgres
from service.workspaces.statuses import Statuses
from service.workspaces.steward_client import Steward, StewardHands
from service.workspaces.work import Plan

NOT_ISOLATED: Final = (
    "workspaces are not isolated: their code runs as this user, %s, and may read and change whatever that user may. "
    "That is for one's own machine and code that you trust; for others, install the steward (docs/steward.md)"
)


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
        mirror=Mirror(places.mirror, origin, read_by_others=is_isolated(settings)),
        hands=_hands(settings, places, site, origin),
        pythons=settings.workspace_pythons,
        database=settings.workspace_database,
        postgres=Postgres(settings.workspace_database) if "://" in settings.workspace_database else None,
        most=settings.workspace_max,
        most_building=settings.workspace_building,
        idle_days=settings.workspace_idle_days,
        expire_days=settings.workspace_expire_days,
        disk_mb=settings.workspace_disk_mb,
        statuses=Statuses(
            settings.workspace_status_url, settings.workspace_status_token, settings.public_url or settings.page_url
        ),
    )


def site(settings: Settings) -> str:
    """What root installs for the host's nginx."""
    addresses = nginx.Addresses.at(settings.workspace_domain, "")
    if addresses.is_local:
        raise SettingsError(
            f"SANDBOX_WORKSPACE_DOMAIN is {settings.workspace_domain!r}: no file of the host's is needed there."
        )
    return addresses.text(Places.under(settings.workspaces, settings.workspace_media))


def _hands(settings: Settings, places: Places, site: nginx.Addresses, origin: Origin) -> Hands:
    limits = Allowance(memory_mb=settings.workspace_memory_mb, disk_mb=settings.workspace_disk_mb)
    web = _web(settings, places, site)
    if is_isolated(settings):
        return StewardHands(Steward(settings.workspace_steward), web)
    return PlainHands(
        places,
        web,
        origin=origin.without_secrets,
        wheels=settings.workspace_index,
        database=settings.workspace_database,
        limits=limits,
    )


def _web(settings: Settings, places: Places, site: nginx.Addresses) -> supervisor.WebProcesses:
    program = None
    if is_isolated(settings):
        about = partial(Steward(settings.workspace_steward).ask, "about")
        program = lambda: list(about()["web"])  # noqa: E731
    return supervisor.WebProcesses(places, site=site, memory_mb=settings.workspace_memory_mb, program=program)


def wake(settings: Settings) -> None:
    """Starts those that ran before `sandbox workspace halt`, or before the host was started."""
    planned = plan(settings)
    if planned.shelf.all():
        planned.hands.wake()


def code_runs_as(settings: Settings) -> str | None:
    """The user that all workspaces share with the service; None where each has one of its own."""
    if is_isolated(settings):
        return None
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # in a container
        return str(os.geteuid())


def is_isolated(settings: Settings) -> bool:
    """`auto` is isolated where a steward is, or has been: a host that has isolated workspaces has no others.

    Whatever would let a stranger's code reach more than its own is refused here, before anything is started.
    """
    homes = Places.under(settings.workspaces).homes
    has_steward = settings.workspace_steward.exists() or (homes.is_dir() and homes.stat().st_uid == 0 != os.geteuid())
    if settings.workspace_isolation == PLAIN or (settings.workspace_isolation == AUTO and not has_steward):
        if not settings.on_loopback or nginx.Addresses.at(settings.workspace_domain, "").host != nginx.LOCAL:
            raise SettingsError(
                f"SANDBOX_WORKSPACE_DOMAIN is {settings.workspace_domain!r} and SANDBOX_BIND {settings.bind!r}: "
                "workspaces without isolation are for one's own machine, at localhost. Install the steward "
                "(docs/steward.md), or take SANDBOX_WORKSPACE_GIT away."
            )
        return False
    if not settings.socket and settings.tokens is None:
        raise SettingsError(
            f"SANDBOX_BIND is {settings.bind!r} and there is no SANDBOX_TOKENS: a workspace's code could ask the "
            "service for everything. Listen at a unix socket, or name a file of tokens."
        )
    for name, value in (
        ("SANDBOX_WORKSPACE_INDEX", settings.workspace_index),
        ("SANDBOX_WORKSPACE_MEDIA", settings.workspace_media),
    ):
        if value:
            raise SettingsError(f"{name} is set, and workspaces are isolated: what they reach stands in steward.toml.")
    if settings.workspace_database == SHARED:
        raise SettingsError(
            "SANDBOX_WORKSPACE_DATABASE is shared, and workspaces are isolated: allowed is copy, empty."
        )
    return True
