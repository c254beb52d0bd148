"""What a release is made of."""

from pathlib import Path
from typing import Any

import pytest

from rollout import build, wheels
from rollout.errors import DeployError
from rollout.pythons import FABS
from rollout.wheels import Wheels


def built(**more: Any) -> build.Built:
    values = {"id": "x", "sha": "y", "version": "1", "pip": "p/pip-1.whl", "wheels": {}, "markers": {}, "built": {}}
    return build.Built(**(values | more))


def test_requirements_name_every_wheel_but_pips_with_its_checksum_and_marker() -> None:
    wheels = {
        "aa": "async_timeout-5.0.1-py3-none-any.whl",
        "bb": "Flask-3.1.3-py3-none-any.whl",
        "cc": "pip-26.3-py3-none-any.whl",
        "dd": "sandbox-0.1.0+gabc1234-py3-none-any.whl",
    }
    text = build.requirements(built(wheels=wheels, markers={"async-timeout": 'python_full_version < "3.11.3"'}))
    assert text.splitlines() == [
        'async_timeout==5.0.1 ; python_full_version < "3.11.3" --hash=sha256:aa',
        "Flask==3.1.3 --hash=sha256:bb",
        "sandbox==0.1.0+gabc1234 --hash=sha256:dd",
    ]


@pytest.mark.parametrize("line", ["flask>=3", "flask", "flask==3.*", "flask==3,!=3.1"])
def test_a_requirement_that_is_not_pinned_is_refused(line: str, tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(f"# what we need\n{line}\n")
    with pytest.raises(DeployError, match="is not pinned"):
        build._requirements(file)


def test_a_wheel_that_lost_its_content_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a power cut."""

    def make(*words: str) -> None:
        Path(words[words.index("--wheel-dir") + 1], "shop-1-py3-none-any.whl").write_text("whole")

    monkeypatch.setattr(wheels, "output", make)
    kept = Wheels(tmp_path)
    [(digest, name)] = kept.of("kind", "key", "shop==1", by=FABS).items()
    kept.file(digest, name).write_text("")
    assert kept.of("kind", "key", "shop==1", by=FABS) == {digest: name}
    assert kept.is_whole(digest, name)
