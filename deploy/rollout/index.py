"""The team's package index: a devpi-server with a stage index over a mirror of PyPI, on a host that [index] names.

It is for people and for `pip install sandbox`; a deploy asks neither it nor PyPI. What the team publishes hides a
package of the same name on PyPI, unless `public` names it: so nobody slips in a newer one.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rollout import glibc, phases, pythons, report, secrets, templates
from rollout.build import Builder, Built, tar
from rollout.errors import DeployError, UsageError
from rollout.host import Host
from rollout.stage import Index, Stage
from rollout.sudo import Password

REQUIREMENTS: Final = "requirements-index.txt"


def setup(stage: Stage, *, overwrite: bool) -> None:
    index = _index(stage)
    password = secrets.read_one("of the index", index.password, stage.project)
    with _connected(stage, index, password, Password()) as host:
        with report.phase(report.EVERYWHERE, "build"):
            python = pythons.of(phases.facts(host))
            wheels, key = Builder(stage).pinned_wheels(stage.folder / REQUIREMENTS, python)
            glibc.refuse_older(str(host), python.libc, (name for name in wheels if name.endswith(".whl")), glibc.OWN)
        with report.phase(str(host), "setup"):
            host.set_up("index_setup.sh", seconds=900)
        with report.phase(str(host), "install") as remarks:
            remarks.append(host.set_up("index_install.sh", key, stdin=tar(wheels), seconds=600).strip())
        with report.phase(str(host), "files") as remarks:
            remarks += _place(host, stage, overwrite=overwrite)
        with report.phase(str(host), "start"):
            host.set_up("index_start.sh", str(index.port), seconds=120)
        with report.phase(str(host), "index") as remarks:
            host.set_up("index_users.py", stdin=json.dumps(wanted(index, password)).encode(), seconds=120)
            remarks.append(f"pip has it by {index.simple}")


def publish(stage: Stage, builder: Builder, built: Built, sudo: Password) -> None:
    """The wheels of the project and of the team; all others are in the mirror. A deploy goes on without the index."""
    try:
        _publish(stage, builder, built, sudo)
    except DeployError as error:
        report.line(report.EVERYWHERE, "publish", f"not published, which fails nothing: {error}")


def _publish(stage: Stage, builder: Builder, built: Built, sudo: Password) -> None:
    index = _index(stage)
    password = secrets.read_one("of the index", index.password, stage.project)
    with _connected(stage, index, password, sudo) as host, report.phase(str(host), "publish") as remarks:
        files = {built.wheels[digest]: builder.wheels.file(digest, built.wheels[digest]) for digest in built.own}
        login = json.dumps(wanted(index, password)).encode() + b"\n"
        answer = host.set_up("index_upload.py", stdin=login + tar(files), seconds=300)
        remarks += answer.splitlines()


def wanted(index: Index, password: str) -> Mapping[str, Any]:
    return {
        "port": index.port,
        "user": index.user,
        "name": index.name,
        "password": password,
        "mirror": index.mirror,
        "public": list(index.public),
    }


def _index(stage: Stage) -> Index:
    if stage.index is None:
        raise UsageError(f"the stage {stage.name} has no [index]; docs/deploy.md says what stands in it")
    return stage.index


@contextmanager
def _connected(stage: Stage, index: Index, password: str, sudo: Password) -> Iterator[Host]:
    host = Host(index.host, stage, sudo)
    host.hidden += (password,)
    try:
        host.open()
        yield host
    finally:
        host.close()


def _place(host: Host, stage: Stage, *, overwrite: bool) -> list[str]:
    files = [vars(file) for file in templates.of_index(stage)]
    given = {"what": "now", "release": "", "files": files, "overwrite": overwrite, "secrets": []}
    outcomes = json.loads(host.set_up("place.py", stdin=json.dumps(given).encode()))
    return [f"{Path(path)} {outcome}" for path, outcome in outcomes.items() if outcome != "same"]
