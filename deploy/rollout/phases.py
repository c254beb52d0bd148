"""The phases of a deploy, each on one host. Their order is that of order.py."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from rollout import glibc, pythons, releases, report, steward, templates
from rollout.beside import side_by_side
from rollout.build import Builder, Built, release_tar
from rollout.errors import DeployError, GoesOn, HostFailed, StillWaits
from rollout.host import Host
from rollout.pythons import Python
from rollout.stage import Stage
from rollout.tasks import Team

FREE_BYTES: Final = 500_000_000
GOES_ON: Final = 3  # restart.sh ends with it
STILL_WAITS: Final = 4  # verify.py does
ROLLBACK_VERIFY_SECONDS: Final = 1

Remarks = list[str]
Secrets = Mapping[str, str]  # variable: value


def everywhere(
    hosts: Sequence[Host], name: str, call: Callable[[Host, Remarks], None], team: Team, id: str = ""
) -> None:
    """A phase on these hosts side by side, with its hooks, and a line for each."""

    def run(host: Host) -> None:
        with report.phase(str(host), name) as remarks, team.around(name, host, id, remarks):
            call(host, remarks)

    side_by_side(hosts, run)


def facts(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.ask("facts.py"))
    return found


def look(host: Host) -> releases.OnHost:
    return releases.from_facts(facts(host))


# --- nothing visible changes ------------------------------------------------------------------------


def check(host: Host, stage: Stage, remarks: Remarks, built: Built | None = None) -> Python:
    """Python, the kind of machine and free space, before anything is built. Changes nothing."""
    found = facts(host)
    if not found["set_up"]:
        raise DeployError(f"{host} is not set up: fab {stage.name} setup")
    _refuse_frozen(host, stage, found)
    python = pythons.of(found)
    if built is None:
        _check_buildable(host, python)
    elif built.python not in ("", str(python)):
        raise DeployError(f"{host} has {python}; {built.id} was built for {built.python}")
    else:
        check_glibc(host, python, built)
    if found["free"] < FREE_BYTES:
        raise DeployError(f"{host} has {found['free'] / 1e6:.0f} MB free; a release needs {FREE_BYTES / 1e6:.0f}")
    remarks.append(f"current is {found['current'] or 'none'}")
    return python


def check_glibc(host: Host, python: Python, built: Built) -> None:
    """Before anything is carried."""
    glibc.refuse_older(str(host), python.libc, built.wheels.values(), built.libc)


def check_frozen(host: Host, stage: Stage) -> Python:
    """For what comes alone. Returns the host's Python."""
    found = facts(host)
    _refuse_frozen(host, stage, found)
    return pythons.of(found)


def _refuse_frozen(host: Host, stage: Stage, found: Mapping[str, Any]) -> None:
    if found["frozen"]:
        raise DeployError(f"{host} is frozen: {found['frozen']} (fab {stage.name} unlock ends that)")


def _check_buildable(host: Host, python: Python) -> None:
    try:
        pythons.program(python)
    except DeployError as error:
        raise DeployError(f"{host} has {python}: {error}") from error


def upload(host: Host, builder: Builder, built: Built, remarks: Remarks) -> None:
    missing = sorted(set(built.wheels) - look(host).wheels)
    if missing:
        host.change("upload.sh", user="deploy", stdin=builder.wheels_tar(built, missing), seconds=600)
    remarks.append(f"{len(missing)} of {len(built.wheels)} wheels")


def install(host: Host, built: Built) -> None:
    words = (built.id, built.pip, *built.wheels)
    host.change("install.sh", *words, user="deploy", stdin=release_tar(built), seconds=600)


def link(host: Host, id: str) -> None:
    host.change("link.sh", id, user="deploy")


def config(host: Host, stage: Stage, secrets: Secrets, id: str, remarks: Remarks) -> None:
    """The files of setup as the stage has them now, for the moment of the switch; the token that `verify` asks with."""
    files = [vars(file) for file in templates.files(stage, secrets)]
    remarks += place(host, "keep", id, files, secrets=list(secrets))
    token(host, id)


def token(host: Host, id: str) -> None:
    """The one that `verify` asks with: a service that is to start with these settings knows it."""
    host.change("token.sh", id)


def put_now(host: Host, stage: Stage, secrets: Secrets, *, overwrite: bool) -> list[str]:
    """The files of setup, at once."""
    files = [vars(file) for file in templates.files(stage, secrets)]
    return place(host, "now", "", files, secrets=list(secrets), overwrite=overwrite)


def put_steward(host: Host, stage: Stage, *, overwrite: bool) -> list[str]:
    """Only by `setup`: what it puts there is root."""
    outcomes = place(host, "now", "", [vars(file) for file in steward.files(stage)], overwrite=overwrite)
    host.change("steward.sh", "changed" if any("left" not in each for each in outcomes) else "same")
    return outcomes


def place(host: Host, what: str, id: str = "", files: Sequence[dict[str, Any]] = (), **how: Any) -> list[str]:
    wanted = {"what": what, "release": id, "files": files, "overwrite": False, "secrets": []} | how
    outcomes = json.loads(host.change("place.py", stdin=json.dumps(wanted).encode()))
    return [f"{path} {outcome}" for path, outcome in outcomes.items() if outcome != "same"]


def migrate(host: Host, stage: Stage, id: str, remarks: Remarks) -> None:
    """The stage's command, once, on the first host."""
    if stage.migrate:
        host.change("as_service.sh", id, stage.migrate, user="sandbox", seconds=3600)
    else:
        remarks.append("none")


def warm(host: Host, stage: Stage, id: str) -> None:
    """The application and the task types load with the new interpreter; then the release is complete."""
    loads = "python -c 'import service.web.app, service.cli.wiring' && sandbox check"
    host.change("as_service.sh", id, loads, user="sandbox", seconds=60 + templates.loading_seconds(stage))
    host.change("complete.sh", id, user="deploy")


# --- the roll ---------------------------------------------------------------------------------------


def switch(host: Host, id: str, remarks: Remarks) -> None:
    """`current` and the files that belong to the release."""
    host.change("switch.sh", id, user="deploy")
    remarks += place(host, "put", id)


def switch_back(host: Host, id: str, remarks: Remarks) -> None:
    """The same, to what served before, with the files that it had."""
    host.change("switch.sh", id, user="deploy")
    remarks += place(host, "back")


def reload(host: Host, stage: Stage, remarks: Remarks) -> None:
    answer = json.loads(host.change("reload.sh", seconds=templates.change_seconds(stage)))
    if answer["status"] != "ok":
        raise DeployError(f"{host}: the reload is refused:\n{answer.get('reason', answer)}")
    if answer.get("started"):
        remarks.append("was not running; started")
        return
    if wish := answer.get("circusd"):
        remarks.append(f"a restart is wanted ({wish})")
    if names := host.ask("new_settings.py").split():
        remarks.append(f"a restart is wanted (settings: {', '.join(names)})")


def verify(host: Host, stage: Stage, id: str, seconds: int, remarks: Remarks) -> None:
    host.change("token.sh", id, "running")
    secret = host.ask("read_token.sh")
    path = templates.socket(stage)
    words = (id, path, stage.domain, str(seconds), stage.verify_task)
    try:
        said = host.ask("verify.py", *words, stdin=secret.encode(), seconds=seconds + 60)
    except HostFailed as error:
        if error.ended == STILL_WAITS:
            raise StillWaits(str(error)) from error
        raise
    remarks += said.splitlines()


def cleanup(host: Host, keep: int, remarks: Remarks) -> None:
    found = look(host)
    old = releases.to_remove(found, keep)
    wheels = releases.unused_wheels(found, old)
    if old or wheels:
        host.change("remove.sh", *old, *wheels, user="deploy", seconds=300)
    remarks.append(f"removed {', '.join(old) or 'nothing'}")


# --- what is not a phase ----------------------------------------------------------------------------


def mark_bad(host: Host, id: str, reason: str) -> None:
    host.change("bad.sh", id, stdin=reason.encode())


def mark_verified(host: Host, id: str) -> None:
    """All is over and well: the next one that fails goes back to this, with the files of now."""
    host.change("verified.sh", id)


def settle(host: Host) -> None:
    """What a killed client left running has ended: what serves now is what will be gone back to."""
    host.change("settle.sh")


def settle_setup(host: Host) -> None:
    """Before a rollback: if it fails, the files that `setup` has put there stay."""
    place(host, "settle")


def stop(host: Host, stage: Stage) -> None:
    host.change("stop.sh", seconds=templates.change_seconds(stage))


def restart(host: Host, stage: Stage, *, anyway: bool = False) -> None:
    """circusd itself is replaced, and no request is refused. `anyway`, if it must be, at the price of some requests."""
    try:
        host.change("restart.sh", *(["anyway"] if anyway else []), seconds=2 * templates.change_seconds(stage))
    except HostFailed as error:
        if error.ended == GOES_ON:
            raise GoesOn(str(error)) from error
        raise


def record(host: Host, facts: dict[str, Any]) -> None:
    host.change("record.sh", user="deploy", stdin=(json.dumps(facts) + "\n").encode())


def freeze(host: Host, reason: str) -> None:
    host.change("freeze.sh", user="deploy", stdin=reason.encode())
