"""What a command does, phase by phase. Two halves: PREPARE on all hosts side by side, where nothing visible changes;
then PUT, host by host (`parallel`), the first alone. What fails in the second half is taken back.

Killed anywhere, this leaves `current` on a complete release, because the link is switched only after `.complete`, and
the service on what its own gate accepted. The next deploy builds a release of its own and needs nothing of this one.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from typing import Any, Final

from rollout import index, lock, logs, marks, order, phases, releases, report, secrets
from rollout.build import Builder, Built
from rollout.errors import DeployError, HostFailed
from rollout.host import Host, side_by_side
from rollout.stage import Stage
from rollout.sudo import Password
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
        def run(host: Host) -> None:
            with report.phase(str(host), name) as remarks, self.team.around(name, host, id, remarks):
                call(host, remarks)

        side_by_side(hosts or self.hosts, run)

    # --- the commands -----------------------------------------------------------------------------

    def setup(self, *, overwrite: bool) -> None:
        values = self.secrets
        packages = (*PACKAGES, *(("python3-venv",) if self.stage.python == "/usr/bin/python3" else ()))
        with self.connected():
            self._everywhere("setup", lambda host, _: _silent(host.ask("setup.sh", *packages, seconds=900)))
            with lock.held(self.hosts, f"setup on {self.stage.name}", self._lock_wait):
                self._everywhere(
                    "files",
                    lambda host, remarks: remarks.extend(phases.place(host, self.stage, values, overwrite=overwrite)),
                )
                self._everywhere("boot", lambda host, _: _silent(host.change("enable.sh")))

    def deploy(self) -> None:
        with self.locked(f"deploy of {self.stage.ref}"):
            self.run("check")
            built = self._build()
            began = time.monotonic()
            try:
                for name in self.team.tasks.order(order.PREPARE)[2:]:  # check and build are done
                    self.run(name, built.id)
            except BaseException as error:
                self._mark_bad(self.hosts, built.id, error)
                self._record("deploy", built.id, None, f"failed: {_first_line(error)}", began)
                raise
            self._put("deploy", built.id, self.stage.verify_seconds)
            self.run("cleanup", built.id)
            marks.tell(self.stage, self.hosts[0], "deploy", built.id)

    def rollback(self, *, to: str | None, keep_good: bool) -> None:
        with self.locked("rollback"):
            found = side_by_side(self.hosts, phases.look)
            target = releases.rollback_target({str(host): one for host, one in found.items()}, to)
            left = {host: one.current for host, one in found.items() if one.current != target}
            report.line(report.EVERYWHERE, "rollback", f"to {target}")
            self._put("rollback", target, phases.ROLLBACK_VERIFY_SECONDS)
            if not keep_good:
                for host, former in left.items():
                    phases.mark_bad(host, str(former), f"somebody went back from it to {target}\n")
            marks.tell(self.stage, self.hosts[0], "rollback", target)

    def phase(self, name: str, id: str | None) -> None:
        """One phase alone: with its lock, of the release that is named, or the newest unfinished one."""
        with self.locked(f"deploy:{name}"):
            if name == "build":
                self._build()
            elif name in ("check", "cleanup"):
                self.run(name)
            else:
                self.run(name, id or self._newest(name))

    def releases(self) -> None:
        with self.connected():
            for host, found in side_by_side(self.hosts, phases.look).items():
                for one in found.releases:
                    places = {"current": found.current, "serving": found.serving}
                    marks = " ".join(mark for mark, place in places.items() if place == one.id)
                    reason = f": {one.bad.splitlines()[0]}" if one.bad else ""
                    report.line(str(host), one.state, f"{one.id} {marks}{reason}")

    def status(self) -> None:
        """One line a host; an error if one does not serve what is current there."""
        with self.connected():
            asked = side_by_side(self.hosts, lambda host: (phases.facts(host), host.ask("status.sh").strip()))
        wrong = []
        for host, (facts, ready) in asked.items():
            found = releases.from_facts(facts)
            frozen = f", frozen: {facts['frozen']}" if facts["frozen"] else ""
            report.line(str(host), ready.partition(":")[0], f"current {found.current}, serving {found.serving}{frozen}")
            if found.current != found.serving or ready != "ready":
                wrong.append(
                    f"{host}: {ready}" if ready != "ready" else f"{host} serves another release than its current one"
                )
        if wrong:
            raise DeployError("\n".join(wrong))

    def restart(self) -> None:
        """Host by host, and no further than to the first that does not come back."""
        with self.locked("restart"):
            for host, found in side_by_side(self.hosts, phases.look).items():
                if found.current is None:
                    raise DeployError(f"nothing is deployed on {host}")
                self._balance("take_out", [host], found.current)
                self._everywhere("restart", lambda one, _: phases.restart(one), [host], found.current)
                seconds = phases.ROLLBACK_VERIFY_SECONDS
                self._everywhere("verify", partial(self._verify, id=found.current, seconds=seconds), [host])
                self._balance("put_back", [host], found.current)

    def _verify(self, host: Host, _: list[str], *, id: str, seconds: int) -> None:
        phases.verify(host, self.stage, id, seconds)

    def logs(self, lines: int, *, follow: bool) -> None:
        with self.connected():
            (logs.follow if follow else logs.last)(self.hosts, lines)

    def freeze(self, reason: str) -> None:
        with self.locked("lock" if reason else "unlock"):
            self._everywhere("lock" if reason else "unlock", lambda host, _: phases.freeze(host, reason))

    # --- the first half ---------------------------------------------------------------------------

    def run(self, name: str, id: str = "") -> None:
        stage, first = self.stage, self.hosts[:1]
        values = self.secrets if name in ("config", "migrate") else {}
        calls: dict[str, Callable[[Host, list[str]], None]] = {
            "check": lambda host, remarks: phases.check(host, stage, remarks),
            "upload": lambda host, remarks: phases.upload(host, self.builder, self.builder.find(id), remarks),
            "install": lambda host, _: phases.install(host, self.builder.find(id)),
            "link": lambda host, _: phases.link(host, id),
            "config": lambda host, remarks: phases.config(host, stage, values, id, remarks),
            "migrate": lambda host, remarks: phases.migrate(host, stage, id, remarks),
            "warm": lambda host, _: phases.warm(host, id),
            "switch": lambda host, _: phases.switch(host, id),
            "reload": lambda host, remarks: phases.reload(host, remarks),
            "verify": lambda host, _: phases.verify(host, stage, id, stage.verify_seconds),
            "cleanup": lambda host, remarks: phases.cleanup(host, stage.keep, remarks),
        }
        alone = name == "migrate" or self.team.is_for_the_first(name)
        self._everywhere(name, {**calls, **self.team.calls(id)}[name], first if alone else (), id)

    def _build(self) -> Built:
        with report.phase(report.EVERYWHERE, "build") as remarks, self.team.around("build", None, "", remarks):
            built = self.builder.build()
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

    # --- the second half --------------------------------------------------------------------------

    def _put(self, command: str, id: str, verify_seconds: int) -> None:
        """Switches, reloads and verifies, group by group; what fails is taken back, and the release is bad."""
        began = time.monotonic()
        side_by_side(self.hosts, phases.settle)
        before = {host: found.serving or found.current for host, found in side_by_side(self.hosts, phases.look).items()}
        done: list[Host] = []
        group: Sequence[Host] = ()
        try:
            for group in self.groups():
                self._put_on(group, id, verify_seconds)
                done += group
        except BaseException as error:
            back = [*group, *(done if self.stage.on_failure == "all" else ())]
            failed = self._take_back(back, before)
            self._mark_bad(self.hosts if self.stage.on_failure == "all" else back, id, error)
            outcome = f"taken back: {_first_line(error)}"
            self._record(command, id, before, outcome, began)
            left = [str(host) for host in done if host not in back]
            raise DeployError(_told(error, [str(host) for host in back], left, failed)) from error
        self._record(command, id, before, "done", began)

    def groups(self) -> Iterator[list[Host]]:
        yield self.hosts[:1]
        rest = self.hosts[1:]
        for first in range(0, len(rest), self.stage.parallel):
            yield rest[first : first + self.stage.parallel]

    def _put_on(self, group: Sequence[Host], id: str, verify_seconds: int) -> None:
        self._balance("take_out", group, id)
        self._everywhere("switch", lambda host, _: phases.switch(host, id), group, id)
        self._everywhere("reload", lambda host, remarks: phases.reload(host, remarks), group, id)
        self._everywhere("verify", partial(self._verify, id=id, seconds=verify_seconds), group, id)
        self._balance("put_back", group, id)

    def _balance(self, hook: str, hosts: Sequence[Host], id: str) -> None:
        if self.team.tasks.files(hook):
            call = {"take_out": self.team.take_out, "put_back": self.team.put_back}[hook]
            self._everywhere(hook, lambda host, remarks: call(host, id, remarks), hosts)

    def _take_back(self, hosts: Sequence[Host], before: dict[Host, str | None]) -> list[str]:
        """Each host by itself: one that cannot be reached must not keep the others from going back."""
        failed = []
        for host in hosts:
            try:
                with report.phase(str(host), "back") as remarks:
                    former = before[host]
                    self.team.take_out_if_it_can(host, former or "", remarks)
                    if former is None:
                        phases.stop(host)
                        remarks.append("stopped: nothing was deployed before")
                    else:
                        phases.switch(host, former)
                        phases.reload(host, remarks)
                        remarks.append(f"to {former}")
                if former is not None:
                    self._balance("put_back", [host], former)
            except DeployError as error:
                failed.append(f"{host} could not be taken back: {error}")
        return failed

    def _mark_bad(self, hosts: Sequence[Host], id: str, error: BaseException) -> None:
        for host in hosts:
            with suppress(HostFailed):
                phases.mark_bad(host, id, f"{error or type(error).__name__}\n")

    def _record(self, command: str, id: str, before: Any, outcome: str, began: float) -> None:
        for host in self.hosts:
            facts = {**report.who(command), "from": before and before[host], "to": id, "outcome": outcome}
            with suppress(HostFailed):
                phases.record(host, facts | {"seconds": round(time.monotonic() - began, 1)})


def _silent(_: str) -> None:
    """For what is called for what it does."""


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _told(error: BaseException, back: list[str], left: list[str], failed: list[str]) -> str:
    lines = [str(error) or type(error).__name__]
    if not failed:
        lines.append(f"taken back: {', '.join(back)}")
    if left:
        lines.append(f'left on the new release (on_failure = "stop"): {", ".join(left)}')
    return "\n".join([*lines, *failed])
