"""What the settings say about releases, as one chain; and where there may be none."""

from service.cli import building
from service.errors import SettingsError
from service.settings import Settings
from service.tasks.declare import TaskType
from service.workspaces.releases import chain
from service.workspaces.releases.chain import Chain
from service.workspaces.releases.clone import OperatorsClone
from service.workspaces.releases.ledger import Ledger


def types(settings: Settings) -> list[TaskType]:
    _refuse_what_is_not_safe(settings)
    assert settings.promote_clone is not None
    first, second = settings.promote_stages
    clone = OperatorsClone(
        settings.promote_clone, settings.promote_branch, settings.promote_test, scratch=settings.releases / "checkout"
    )
    return chain.types(
        Chain(
            clone=clone, ledger=Ledger(settings.releases), first=first, second=second, lock=settings.releases / ".lock"
        )
    )


def _refuse_what_is_not_safe(settings: Settings) -> None:
    """The service's user holds the key to the hosts: no workspace's code may be this user's. And who asks for a deploy
    must be known by name.
    """
    if settings.workspace_git and not building.is_isolated(settings):
        raise SettingsError(
            "SANDBOX_PROMOTE_CLONE is set, and workspaces are not isolated: their code could take the key by which "
            "releases are deployed. Install the steward (docs/steward.md), or run releases in a service of their own."
        )
    if settings.tokens is None or not settings.promote_people:
        raise SettingsError(
            "SANDBOX_PROMOTE_CLONE is set: name in SANDBOX_PROMOTE_PEOPLE whose tokens may bring a release to "
            f"{settings.promote_stages[1]}, and the file of tokens in SANDBOX_TOKENS."
        )
