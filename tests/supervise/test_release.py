"""By which name a release is found."""

from pathlib import Path

import pytest

from service.supervise.reload import release
from service.supervise.reload.release import NoRelease


def test_a_link_to_itself_names_no_release(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("current")
    with pytest.raises(NoRelease, match="/current', which is not a folder"):
        release.find(tmp_path / "current")
