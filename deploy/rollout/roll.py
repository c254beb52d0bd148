"""What a command does, phase by phase. Two halves: PREPARE on all hosts side by side, where nothing visible changes;
then PUT, host by host (switchover.py). What fails in the second half is taken back.

Killed anywhere, this leaves `current` on a complete release, because the link is switched only after `.complete`, and
the service on what its own gate accepted. The next deploy builds a release of its own and needs nothing of this one; if
it fails, it goes back to a release that was verified (releases.former), with the files that this one had.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, Final

from rollout import (
    index,
    interrupts,
    lock,
    marks,
    order,
    phases,
    pythons,
    releases,
    report,
    secrets,
    steward,
    switchover,
    templates,
)
from rollout.beside import side_by_side
from rollout.build import Builder, Built
from rollout.errors import DeployError, HostFailed, TakenBack
from rollout.host import Host
from rollout.pythons import Python
from rollout.releases import OnHost
from rollout.stage import Stage
from rollout.sudo import Password
from rollout.switchover import Switchover
from rollout.tasks import Team

PACKAGES: Final = ("nginx", "openssl", "procps")


class Roll:
    """One command on the hosts of a stage."""

    def __init__(self, stage: Stage, lock_wait: int = 0) -> None:
        self.stage = stage
        self.password = Password()
        self.hosts = [Host(address, stage, self.password) for address in stage.hosts]
        self.team = Team(stage)
        self.builder = Builder(stage)
        self._lock_wait = lock_wait
        self._found: dict[Host, OnHost] = {}  # before anything has changed
        self._pythons: dict[Host, Python] = {}  # of the hosts, once they were asked
        self._there: set[Host] = set()  # where the release was installed to its end before

    @cached_property
    def secrets(self) -> dict[str, str]:
        """Read once, when they are first needed; no host's error shows them from then on."""
        values = secrets.read(self.stage)
        for host in self.hosts:
            host.hidden += tuple(values.values())
        return values

    @contextmanager
    def connected(self) -> Iterator[None]:
        try:
            side_by_side(self.hosts, Host.open)
            yield
        finally:
            for host in self.hosts:
                host.close()

    @contextmanager
    def locked(self, purpose: str) -> Iterator[None]:
        with self.connected(), lock.held(self.hosts, f"{purpose} on {self.stage.name}", self._lock_wait):
            yield

    def _everywhere(
        self, name: str, call: Callable[[Host, list[str]], None], hosts: Sequence[Host] = (), id: str = ""
    ) -> None:
        phases.everywhere(hosts or self.hosts, name, call, self.team, id)

    # --- the commands -----------------------------------------------------------------------------

    def _render(self) -> dict[str, str]:
        """What is wrong in the stage's settings, secrets and templates is told before a host is asked."""
        templates.files(self.stage, self.secrets)
        return self.secrets

    def setup(self, *, overwrite: bool) -> None:
        values = self._render()
        packages = (*PACKAGES, *(("python3-venv",) if self.stage.python == "/usr/bin/python3" else ()))
        packages += steward.PACKAGES if self.stage.workspaces else ()
        with self.connected():
            self._everywhere("setup", lambda host, _: _silent(host.set_up("setup.sh", *packages, seconds=900)))
            with lock.held(self.hosts, f"setup on {self.stage.name}", self._lock_wait):
                self._everywhere(
                    "files",
                    lambda host, remarks: remarks.extend(phases.put_now(host, self.stage, values, overwrite=overwrite)),
                )
                if self.stage.workspaces:
                    self._everywhere(
                        "steward",
                        lambda host, remarks: remarks.extend(phases.put_steward(host, self.stage, overwrite=overwrite)),
                    )
                self._everywhere("boot", lambda host, _: _silent(host.change("enable.sh")))

    def deploy(self, *, restart: bool = False) -> None:
        self._render()
        with self.locked(f"deploy of {self.stage.ref}"):
            self._look()
            with self._recorded("deploy") as facts:
                self._check()
                built = self._build()
                facts["to"] = built.id
                self._bring(built.id, restart=restart)
            self._end(built.id)

    def carry(self, id: str, *, restart: bool = False) -> None:
        """Deploys a release that was built before, for this stage or another one: the same wheels, by their checksums.

        It may be called again after a kill at any moment. If the release serves on all hosts, it is only proved; with
        `restart`, that begins with one.
        """
        self.builder.check(built := self.builder.find(id))
        self._render()
        with self.locked(f"deploy of {id}"):
            found = self._look()
            with self._recorded("deploy", id):
                self._check(built)
                if all(one.current == one.serving == id for one in found.values()):
                    self._prove(id, restart=restart)
                else:
                    self._there = {host for host, one in found.items() if one.has(id)}
                    self._bring(id, restart=restart)
            self._end(id)

    def _bring(self, id: str, *, restart: bool) -> None:
        """Failures in a row fill no disk: only the newest stays, as evidence."""
        try:
            self._prepare(id)
            self._switchover().to(id, self.stage.verify_seconds, restart=restart)
        except DeployError:
            self._clean_up_what_failed()
            raise

    def _clean_up_what_failed(self) -> None:
        """Without a team's hooks, for which `cleanup` is the end of a deploy that has come."""

        def clean(host: Host) -> None:
            with report.phase(str(host), "cleanup") as remarks:
                phases.cleanup(host, self.stage.keep, remarks)

        try:
            side_by_side(self.hosts, clean)
        except DeployError as error:
            report.warning(f"fab: what failed was not cleaned up: {error}")

    def _prove(self, id: str, *, restart: bool) -> None:
        if restart:
            self._switchover().restart()
        else:
            self.run("verify", id)
            switchover.mark_verified(self.hosts, id)

    def _end(self, id: str) -> None:
        self.run("cleanup", id)
        marks.tell(self.stage, self.hosts[0], "deploy", id)
        report.line(report.EVERYWHERE, "done", id)

    def _prepare(self, id: str) -> None:
        try:
            for name in self.team.tasks.order(order.PREPARE)[2:]:  # check and build are done
                self.run(name, id)
        except BaseException as error:
            with interrupts.held():  # what has served well before is not bad because a wheel cannot be carried there
                switchover.mark_bad([host for host in self.hosts if not self._found[host].has_verified(id)], id, error)
            raise

    def rollback(self, *, to: str | None, keep_good: bool, restart: bool = False) -> None:
        with self.locked("rollback"):
            found = self._look()
            target = releases.rollback_target({str(host): one for host, one in found.items()}, to)
            left = {host: one.current for host, one in found.items() if one.current != target}
            report.line(report.EVERYWHERE, "rollback", f"to {target}")
            with self._recorded("rollback", target):
                side_by_side(self.hosts, phases.settle_setup)
                self._switchover().to(target, phases.ROLLBACK_VERIFY_SECONDS, restart=restart)
            if not keep_good:
                for host, former in left.items():
                    phases.mark_bad(host, str(former), f"somebody went back from it to {target}\n")
            marks.tell(self.stage, self.hosts[0], "rollback", target)

    def phase(self, name: str, id: str | None) -> None:
        """One phase alone: with its lock, of the release that is named, or the newest unfinished one."""
        with self.locked(f"deploy:{name}"):
            self._pythons = side_by_side(self.hosts, lambda host: phases.check_frozen(host, self.stage))
            if name == "build":
                self._build()
            elif name == "check":
                self._check()
            elif name == "cleanup":
                self.run(name)
            else:
                release = id or self._newest(name)
                if name in ("upload", "install"):
                    self._check_glibc(self.builder.find(release))
                self.run(name, release)
                if name == "verify":
                    side_by_side(self.hosts, lambda host: phases.mark_verified(host, release))

    def restart(self) -> None:
        with self.locked("restart"):
            if bare := [str(host) for host, found in self._look().items() if found.current is None]:
                raise DeployError(f"nothing is deployed on {', '.join(bare)}")
            with self._recorded("restart"):
                self._switchover().restart()

    def freeze(self, reason: str) -> None:
        with self.locked("lock" if reason else "unlock"):
            self._everywhere("lock" if reason else "unlock", lambda host, _: phases.freeze(host, reason))

    # --- the first half ---------------------------------------------------------------------------

    def _check(self, built: Built | None = None) -> None:
        """May this release come, or a new one?"""

        def check(host: Host, remarks: list[str]) -> None:
            self._pythons[host] = phases.check(host, self.stage, remarks, built)

        self._everywhere("check", check)
        self._python()

    def _python(self) -> Python:
        return pythons.common({str(host): python for host, python in self._pythons.items()})

    def _check_glibc(self, built: Built) -> None:
        for host, python in self._pythons.items():
            phases.check_glibc(host, python, built)

    def run(self, name: str, id: str = "") -> None:
        stage, first = self.stage, self.hosts[:1]
        values = self.secrets if name in ("config", "migrate") else {}
        calls: dict[str, Callable[[Host, list[str]], None]] = {
            "upload": lambda host, remarks: phases.upload(host, self.builder, self.builder.find(id), remarks),
            "install": lambda host, remarks: self._install(host, id, remarks),
            "link": lambda host, _: phases.link(host, id),
            "config": lambda host, remarks: phases.config(host, stage, values, id, remarks),
            "migrate": lambda host, remarks: phases.migrate(host, stage, id, remarks),
            "warm": lambda host, _: phases.warm(host, stage, id),
            "switch": lambda host, remarks: phases.switch(host, id, remarks),
            "reload": lambda host, remarks: phases.reload(host, stage, remarks),
            "verify": lambda host, remarks: phases.verify(host, stage, id, stage.verify_seconds, remarks),
            "cleanup": lambda host, remarks: phases.cleanup(host, stage.keep, remarks),
        }
        alone = name == "migrate" or self.team.is_for_the_first(name)
        self._everywhere(name, {**calls, **self.team.calls(id)}[name], first if alone else (), id)

    def _install(self, host: Host, id: str, remarks: list[str]) -> None:
        if host in self._there:
            remarks.append("was there")
        else:
            phases.install(host, self.builder.find(id))

    def _build(self) -> Built:
        with report.phase(report.EVERYWHERE, "build") as remarks, self.team.around("build", None, "", remarks):
            newest = max(set().union(*(found.ids for found in self._found.values())), default="")
            built = self.builder.build(self._python(), newest)
            self._check_glibc(built)
            remarks.append(f"{built.id}, version {built.version}")
        if self.stage.index is not None:
            index.publish(self.stage, self.builder, built, self.password)
        return built

    def _newest(self, name: str) -> str:
        if name == "upload":
            return self.builder.newest()
        found = list(side_by_side(self.hosts, phases.look).values())
        if name in order.PUT:  # a complete one, newer than what serves or the same
            good = set.intersection(*({one.id for one in host.releases if one.good} for host in found))
            if good:
                return max(good)
        elif name == "install":
            return self.builder.newest()
        return releases.newest_unfinished(found)

    # --- around the second half -------------------------------------------------------------------

    def _switchover(self) -> Switchover:
        return Switchover(self.stage, self.team, self._found)

    def _look(self) -> dict[Host, OnHost]:
        """What there is when everything that a killed client left running has ended."""
        side_by_side(self.hosts, phases.settle)
        self._found = side_by_side(self.hosts, phases.look)
        return self._found

    @contextmanager
    def _recorded(self, command: str, to: str | None = None) -> Iterator[dict[str, Any]]:
        """A line for deploys.jsonl, however it ends. Of a client that was killed hold.sh writes it."""
        began = time.monotonic()
        facts = {**report.who(command), "to": to, "outcome": "done"}
        try:
            yield facts
        except BaseException as error:
            facts["outcome"] = f"{'taken back' if isinstance(error, TakenBack) else 'failed'}: {_first_line(error)}"
            raise
        finally:
            self._record(facts | {"seconds": round(time.monotonic() - began, 1)})

    def _record(self, facts: dict[str, Any]) -> None:
        def record(host: Host) -> None:
            with suppress(HostFailed):
                phases.record(host, facts | {"from": self._found[host].current})

        side_by_side(self.hosts, record)


def _silent(_: str) -> None:
    """For what is called for what it does."""


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
