"""Which release is meant: pure functions of what the hosts have.

A release's folder is named `<UTC>-<commit>`, so the order of names is that of time; where the clock of who builds it is
behind, it is named after what is there. The file `.complete` in it says that it could be started, `.verified` that it
served as it should, `.bad` that it failed, and why. A folder with none of them was given up half-way.

A release without `.verified` may be current: a client was killed after the switch. Nobody knows of it whether it works,
so what goes back prefers one that was verified.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rollout.errors import DeployError, UsageError

MOMENT: Final = "%Y%m%dT%H%M%S"
ID: Final = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{7}")


@dataclass(frozen=True, kw_only=True)
class Release:
    id: str
    complete: bool
    verified: bool = False
    bad: str | None = None  # the reason
    wheels: tuple[str, ...] = ()
    sha: str = ""
    version: str = ""  # the project's
    sandbox: str = ""  # the version of the service, which another project pins

    @property
    def good(self) -> bool:
        return self.complete and self.bad is None

    @property
    def state(self) -> str:
        if self.bad is not None:
            return "bad"
        if not self.complete:
            return "unfinished"
        return "good" if self.verified else "unverified"


@dataclass(frozen=True, kw_only=True)
class OnHost:
    """What one host has. `living` are the releases that a living process was started from."""

    releases: tuple[Release, ...]
    current: str | None
    serving: str | None
    living: frozenset[str]
    wheels: frozenset[str]

    @property
    def ids(self) -> set[str]:
        return {release.id for release in self.releases}

    def has(self, id: str) -> bool:
        """To its end, whatever became of it."""
        return any(release.id == id and release.complete for release in self.releases)

    def has_verified(self, id: str) -> bool:
        return any(release.id == id and release.verified and release.good for release in self.releases)


def name(at: datetime, sha: str, after: str = "") -> str:
    """Later than `after`, the name of another one."""
    with suppress(ValueError, OverflowError):
        at = max(at, datetime.strptime(f"{after[:15]}+0000", f"{MOMENT}%z") + timedelta(seconds=1))
    return f"{at.astimezone(UTC):{MOMENT}}-{sha[:7]}"


def checked(id: str) -> str:
    if not ID.fullmatch(id):
        raise UsageError(f"{id!r} is no release's name; one looks like 20261126T101500-0a1b2c3")
    return id


def from_facts(facts: Mapping[str, Any]) -> OnHost:
    found = [Release(**{**one, "wheels": tuple(one["wheels"])}) for one in facts["releases"] if ID.fullmatch(one["id"])]
    return OnHost(
        releases=tuple(sorted(found, key=lambda release: release.id)),
        current=facts["current"],
        serving=facts["serving"],
        living=frozenset(facts["living"]),
        wheels=frozenset(facts["wheels"]),
    )


def newest_unfinished(hosts: Iterable[OnHost]) -> str:
    """What a phase that is run alone goes on with."""
    unfinished = {one.id for host in hosts for one in host.releases if one.state == "unfinished"}
    if not unfinished:
        raise DeployError("no host has an unfinished release; name one: --release ID")
    return max(unfinished)


def rollback_target(hosts: Mapping[str, OnHost], to: str | None = None) -> str:
    """The newest release that was verified on every host, and is older than what any of them has now. Where there is
    none, the newest that could be started."""
    currents = [host.current for host in hosts.values() if host.current]
    if len(currents) < len(hosts):
        without = ", ".join(name for name, host in hosts.items() if host.current is None)
        raise DeployError(f"nothing is deployed on {without}: there is nothing to go back from")
    good = _on_all(hosts.values(), lambda one: one.good)
    if to is not None:
        if to not in good:
            raise DeployError(f"{to} is not complete and good on every host; `fab STAGE releases` lists what is there")
        return to
    older = {one for one in good if one < min(currents)}
    if not older:
        raise DeployError("there is no older good release to go back to; `fab STAGE releases` lists what is there")
    return max(older & _on_all(hosts.values(), lambda one: one.verified) or older)


def _on_all(hosts: Iterable[OnHost], fits: Callable[[Release], bool]) -> set[str]:
    return set.intersection(*({one.id for one in host.releases if fits(one)} for host in hosts))


def former(host: OnHost, next: str) -> str | None:
    """What a host goes back to if `next` fails: what serves, or the newest that was verified if that was not."""
    now = host.serving or host.current
    verified = [one.id for one in host.releases if one.good and one.verified]
    others = [each for each in verified if each != next]
    return now if now in verified or not others else others[-1]


def to_remove(host: OnHost, keep: int) -> list[str]:
    """All but `keep` good ones, what is current or alive, and the newest that failed: the evidence.

    One that was never verified counts as good only where there are too few that were.
    """
    good = [one.id for one in sorted(host.releases, key=lambda one: (one.verified, one.id)) if one.good]
    failed = [one.id for one in host.releases if not one.good]
    kept = {*good[-keep:], *failed[-1:], host.current, host.serving, *host.living}
    return [one.id for one in host.releases if one.id not in kept]


def unused_wheels(host: OnHost, removed: Sequence[str]) -> list[str]:
    used = {wheel for one in host.releases if one.id not in removed for wheel in one.wheels}
    return sorted(host.wheels - used)
