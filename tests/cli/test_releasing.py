"""Where releases may be, by the settings; and what serves them."""

from pathlib import Path

import pytest

from service import settings
from service.cli import releasing
from service.errors import SettingsError

SAFE = {"SANDBOX_PROMOTE_CLONE": "/srv/shop", "SANDBOX_PROMOTE_PEOPLE": "jo", "SANDBOX_TOKENS": "/etc/tokens"}


def test_a_builder_serves_them() -> None:
    read = settings.read(SAFE)
    assert (read.builders, read.builder_queues) == (1, ("releases",))
    assert [each.name for each in releasing.types(read)] == ["release.promote", "release.deploy"]
    both = settings.read(SAFE | {"SANDBOX_WORKSPACE_GIT": "/srv/git"})
    assert (both.builders, both.builder_queues) == (1, ("workspaces", "releases"))
    assert settings.read({}).builder_queues == ()


@pytest.mark.parametrize("lacking", ["SANDBOX_PROMOTE_PEOPLE", "SANDBOX_TOKENS"])
def test_who_asks_must_be_known_by_name(lacking: str) -> None:
    given = {name: text for name, text in SAFE.items() if name != lacking}
    with pytest.raises(SettingsError, match="whose tokens may bring a release to production"):
        releasing.types(settings.read(given))


@pytest.mark.parametrize("isolation", ["plain", "auto"])
def test_no_workspaces_code_may_be_the_user_that_holds_the_key(tmp_path: Path, isolation: str) -> None:
    plain = {
        "SANDBOX_WORKSPACE_GIT": "/srv/git",
        "SANDBOX_WORKSPACE_ISOLATION": isolation,
        "SANDBOX_HOME": str(tmp_path),
        "SANDBOX_WORKSPACE_STEWARD": str(tmp_path / "none"),
    }
    with pytest.raises(SettingsError, match="workspaces are not isolated"):
        releasing.types(settings.read(SAFE | plain))
    isolated = plain | {"SANDBOX_WORKSPACE_ISOLATION": "isolated"}
    assert releasing.types(settings.read(SAFE | isolated))
