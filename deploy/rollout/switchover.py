"""The second half of a deploy, and the whole of a rollback: hosts are switched, reloaded and verified, group by group
(`parallel`), the first alone. What fails is taken back. A restart goes the same way.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from rollout import interrupts, phases, releases, report
from rollout.errors import DeployError, GoesOn, HostFailed, StillWaits, TakenBack
from rollout.host import Host
from rollout.releases import OnHost
from rollout.stage import Stage
from rollout.tasks import Team


class Switchover:
    def __init__(self, stage: Stage, team: Team, found: Mapping[Host, OnHost]) -> None:
        """`found` is what each host of the stage had before anything has changed."""
        self._stage = stage
        self._team = team
        self._found = found
        self._replaced: set[Host] = set()  # where another circusd is at work, or may be

    def to(self, id: str, verify_seconds: int, *, restart: bool) -> None:
        """If it fails, the release is bad, but for hosts that it has served before, and serves again."""
        hosts = list(self._found)
        former = {host: releases.former(found, id) for host, found in self._found.items()}
        done: list[Host] = []
        group: Sequence[Host] = ()
        try:
            for group in groups(hosts, self._stage.parallel):
                self._put_on(group, id, verify_seconds, restart=restart)
                done += group
        except BaseException as error:
            everywhere = self._stage.on_failure == "all"
            back = [*group, *(done if everywhere else ())]
            left = [host for host in done if host not in back]
            with interrupts.held():
                failed = self._take_back(back, former, restart=restart)
                blamed = [host for host in (hosts if everywhere else back) if former[host] != id]
                if isinstance(error, StillWaits):  # what was verified once is not bad because of that
                    blamed = [host for host in blamed if not self._found[host].has_verified(id)]
                mark_bad(blamed, id, error)
                mark_verified(left, id)
            raise TakenBack(_told(error, list(map(str, back)), list(map(str, left)), failed)) from error
        mark_verified(hosts, id)

    def restart(self) -> None:
        """No further than to the first host that does not come back."""
        for host, found in self._found.items():
            self._restart(host, str(found.current))

    def _restart(self, host: Host, id: str) -> None:
        """The settings that `setup` has put there go away again if the service does not take them. A client that was
        killed after the switch has left another release as the current one: what serves comes back.
        """
        try:
            self._balance("take_out", [host], id)
            self._replace([host], id)
            self._verify([host], id, phases.ROLLBACK_VERIFY_SECONDS)
            self._balance("put_back", [host], id)
        except BaseException as error:
            with interrupts.held():
                failed = self._take_back([host], {host: self._found[host].serving or id}, restart=True)
            raise TakenBack(_told(error, [str(host)], [], failed)) from error
        phases.mark_verified(host, id)

    def _put_on(self, group: Sequence[Host], id: str, verify_seconds: int, *, restart: bool) -> None:
        self._balance("take_out", group, id)
        phases.everywhere(group, "switch", lambda host, remarks: phases.switch(host, id, remarks), self._team, id)
        if restart:
            self._replace(group, id)
        else:
            phases.everywhere(group, "reload", self._reload, self._team, id)
        self._verify(group, id, verify_seconds)
        self._balance("put_back", group, id)

    def _reload(self, host: Host, remarks: list[str]) -> None:
        phases.reload(host, self._stage, remarks)

    def _replace(self, hosts: Sequence[Host], id: str) -> None:
        """What fails may have come half way, unless the service says that it goes on as it was."""

        def replace(host: Host, _: list[str]) -> None:
            phases.token(host, id)
            self._replaced.add(host)
            try:
                phases.restart(host, self._stage)
            except GoesOn:
                self._replaced.discard(host)
                raise

        phases.everywhere(hosts, "restart", replace, self._team, id)

    def _verify(self, hosts: Sequence[Host], id: str, seconds: int) -> None:
        def verify(host: Host, remarks: list[str]) -> None:
            phases.verify(host, self._stage, id, seconds, remarks)

        phases.everywhere(hosts, "verify", verify, self._team, id)

    def _balance(self, hook: str, hosts: Sequence[Host], id: str) -> None:
        if self._team.tasks.files(hook):
            call = {"take_out": self._team.take_out, "put_back": self._team.put_back}[hook]
            phases.everywhere(hosts, hook, lambda host, remarks: call(host, id, remarks), self._team)

    def _take_back(self, hosts: Sequence[Host], former: Mapping[Host, str | None], *, restart: bool) -> list[str]:
        """Each host by itself: whatever fails on one must not keep the others from going back."""
        failed = []
        for host in hosts:
            try:
                with report.phase(str(host), "back") as remarks:
                    self._team.take_out_if_it_can(host, former[host] or "", remarks)
                    self._put_back(host, former[host], remarks, restart=restart)
                if back := former[host]:
                    self._balance("put_back", [host], back)
            except Exception as error:
                why = error if isinstance(error, DeployError) else f"{type(error).__name__}: {error}"
                failed.append(f"{host} could not be taken back: {why}")
        return failed

    def _put_back(self, host: Host, id: str | None, remarks: list[str], *, restart: bool) -> None:
        """A circusd that was never replaced is not ended for one that might not start."""
        if id is None:
            phases.stop(host, self._stage)
            remarks.append("stopped: nothing was deployed before")
            return
        phases.switch_back(host, id, remarks)
        if host in self._replaced:
            phases.restart(host, self._stage, anyway=True)
        elif restart and id in (self._found[host].serving, self._found[host].current):
            remarks.append("the service goes on as it was")
        else:
            phases.reload(host, self._stage, remarks)
        remarks.append(f"to {id}")


def groups(hosts: Sequence[Host], parallel: int) -> Iterator[Sequence[Host]]:
    """The first host is the canary."""
    yield hosts[:1]
    for first in range(1, len(hosts), parallel):
        yield hosts[first : first + parallel]


def mark_bad(hosts: Sequence[Host], id: str, error: BaseException) -> None:
    for host in hosts:
        with suppress(HostFailed):
            phases.mark_bad(host, id, f"{error or type(error).__name__}\n")


def mark_verified(hosts: Sequence[Host], id: str) -> None:
    """It serves: a host that is lost now takes nothing back."""
    for host in hosts:
        with suppress(HostFailed):
            phases.mark_verified(host, id)


def _told(error: BaseException, back: list[str], left: list[str], failed: list[str]) -> str:
    lines = [str(error) or type(error).__name__]
    if not failed:
        lines.append(f"taken back: {', '.join(back)}")
    if left:
        lines.append(f'left on the new release (on_failure = "stop"): {", ".join(left)}')
    return "\n".join([*lines, *failed])
