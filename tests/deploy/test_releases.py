"""Which release is meant, for each thing that hosts may have."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rollout.errors import DeployError, UsageError
from rollout.releases import (
    OnHost,
    Release,
    checked,
    former,
    from_facts,
    name,
    newest_unfinished,
    rollback_target,
    to_remove,
    unused_wheels,
)
from tests.system.instance import ROOT

FACTS = ROOT / "deploy" / "remote" / "facts.py"


def id_of(number: int) -> str:
    return name(datetime(2026, 11, 26, 10, number, tzinfo=UTC), f"{number:07x}")


def on_host(states: str, *, current: int | None = None, **more: Any) -> OnHost:
    """A host with a release for each letter: verified, good but not verified, bad, unfinished, in the order of time."""
    releases = tuple(
        Release(
            id=id_of(number),
            complete=state != "u",
            verified=state == "v",
            bad="why" if state == "b" else None,
            wheels=(f"{number}", "all"),
        )
        for number, state in enumerate(states)
    )
    values = {"serving": None, "living": frozenset(), "wheels": frozenset({"all", "nobody's"})} | more
    return OnHost(releases=releases, current=None if current is None else id_of(current), **values)


def test_a_name_tells_time_and_commit_and_sorts_by_time() -> None:
    assert name(datetime(2026, 11, 26, 9, 5, 3, tzinfo=UTC), "0a1b2c3d4e5f") == "20261126T090503-0a1b2c3"
    assert checked("20261126T090503-0a1b2c3") == "20261126T090503-0a1b2c3"


@pytest.mark.parametrize(
    ("newest", "moment"),
    [
        ("", "20261126T090503"),
        ("20261126T090502-ffffff0", "20261126T090503"),
        ("20261126T090503-ffffff0", "20261126T090504"),
        ("20261126T235959-ffffff0", "20261127T000000"),
        ("99999999T999999-ffffff0", "20261126T090503"),  # no moment
    ],
)
def test_a_name_comes_after_what_is_there_though_the_clock_is_behind(newest: str, moment: str) -> None:
    assert name(datetime(2026, 11, 26, 9, 5, 3, tzinfo=UTC), "0a1b2c3d4e5f", newest) == f"{moment}-0a1b2c3"


@pytest.mark.parametrize("text", ["", "..", "20261126T090503-0a1b2c3/..", "current", "20261126T090503-0A1B2C3"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no release's name"):
        checked(text)


@pytest.mark.parametrize(
    ("states", "current", "target"),
    [
        ("gg", 1, 0),
        ("ggg", 1, 0),  # what is newer is not gone back to
        ("gbg", 2, 0),
        ("gug", 2, 0),
        ("gbbbbbg", 6, 0),  # five failures and one success
        ("ggb", 2, 1),
        ("vgv", 2, 0),  # one that was verified before one that nobody saw at work
        ("vvg", 2, 1),
        ("gvv", 1, 0),
    ],
)
def test_a_rollback_goes_to_the_newest_good_one_before_the_current(states: str, current: int, target: int) -> None:
    assert rollback_target({"a": on_host(states, current=current)}) == id_of(target)


@pytest.mark.parametrize(("states", "current"), [("g", 0), ("bg", 1), ("ug", 1), ("gg", 0)])
def test_a_rollback_to_nothing_is_refused(states: str, current: int) -> None:
    with pytest.raises(DeployError, match="no older good release"):
        rollback_target({"a": on_host(states, current=current)})


def test_a_rollback_before_the_first_deploy_names_the_host() -> None:
    with pytest.raises(DeployError, match="nothing is deployed on b"):
        rollback_target({"a": on_host("gg", current=1), "b": on_host("")})


def test_a_rollback_goes_to_what_is_good_on_every_host() -> None:
    assert rollback_target({"a": on_host("ggg", current=2), "b": on_host("gbg", current=2)}) == id_of(0)


def test_a_rollback_to_a_named_release_wants_it_good_everywhere() -> None:
    hosts = {"a": on_host("ggg", current=1), "b": on_host("bgg", current=1)}
    assert rollback_target(hosts, id_of(2)) == id_of(2)
    with pytest.raises(DeployError, match="not complete and good on every host"):
        rollback_target(hosts, id_of(0))


def test_a_phase_alone_goes_on_with_the_newest_unfinished_release() -> None:
    assert newest_unfinished([on_host("guug"), on_host("gu")]) == id_of(2)
    with pytest.raises(DeployError, match="--release ID"):
        newest_unfinished([on_host("gb")])


@pytest.mark.parametrize(
    ("states", "current", "keep", "removed"),
    [
        ("gggg", 3, 2, [0, 1]),
        ("gggg", 0, 2, [1]),  # never the current one
        ("gbbgbb", 3, 2, [1, 2, 4]),  # failed ones count for nothing, but the newest is evidence
        ("ugug", 3, 5, [0]),
        ("g", 0, 1, []),
        ("vvgggv", 5, 3, [2, 3, 4]),  # five clients were killed: what was verified stays
        ("gvv", 2, 3, []),
        ("ggvv", 3, 3, [0]),
    ],
)
def test_a_clean_up_keeps_good_ones_the_current_one_and_the_evidence(
    states: str, current: int, keep: int, removed: list[int]
) -> None:
    assert to_remove(on_host(states, current=current), keep) == list(map(id_of, removed))


@pytest.mark.parametrize(
    ("states", "current", "serving", "target"),
    [
        ("vvg", 1, 1, 1),  # what serves
        ("vvg", 2, 1, 1),  # a client was killed between the switch and the reload
        ("vggg", 2, 2, 0),  # one was killed before it had verified: nobody knows of 2
        ("ggg", 1, 1, 1),  # nothing was ever verified
        ("vbg", 1, 1, 0),
        ("vvg", 1, None, 1),  # nothing serves
        ("g", None, None, None),
        ("vv", 1, 1, 1),  # `next` itself serves already, and was verified
        ("vg", 1, 1, 0),
    ],
)
def test_what_fails_goes_back_to_what_serves_if_that_was_verified(
    states: str, current: int | None, serving: int | None, target: int | None
) -> None:
    def named(number: int | None) -> str | None:
        return None if number is None else id_of(number)

    host = on_host(states, current=current, serving=named(serving))
    assert former(host, id_of(len(states) - 1)) == named(target)


def test_a_clean_up_keeps_what_a_living_process_was_started_from() -> None:
    host = on_host("ggggg", current=4, serving=id_of(1), living=frozenset({id_of(0)}))
    assert to_remove(host, 1) == [id_of(2), id_of(3)]


@pytest.mark.parametrize("target", ["releases/{}", "releases/{}/", "{root}/releases/{}", "{root}/releases/{}/"])
def test_a_link_that_somebody_has_typed_is_understood(target: str, tmp_path: Path) -> None:
    """Shells complete the name of a folder with a slash."""
    (tmp_path / "current").symlink_to(target.format(id_of(1), root=tmp_path))
    found = subprocess.run((sys.executable, FACTS), env={"ROOT": str(tmp_path)}, capture_output=True, check=True)
    assert from_facts(json.loads(found.stdout)).current == id_of(1)


def test_wheels_that_no_remaining_release_has_are_unused() -> None:
    host = on_host("gg", current=1, wheels=frozenset({"0", "1", "all", "nobody's"}))
    assert unused_wheels(host, [id_of(0)]) == ["0", "nobody's"]


def test_a_folder_with_a_foreign_name_is_no_release() -> None:
    facts = {
        "releases": [{"id": "lost+found", "complete": False, "bad": None, "wheels": []}],
        "current": None,
        "serving": None,
        "living": [],
        "wheels": [],
    }
    assert from_facts(facts).releases == ()
