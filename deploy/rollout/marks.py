"""After a good deploy or rollback: an event in Graphite, and a release in Sentry, where the stage has them.

Nothing fails because one of them does not answer: that is a remark. Graphite is told by the first host, which reaches
it for the service anyway; Sentry by this machine, which alone has the token.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from rollout import phases, report, secrets
from rollout.errors import DeployError
from rollout.host import Host
from rollout.releases import Release
from rollout.stage import Sentry, Stage

SENTRY_SECONDS: Final = 10
ENVIRONMENT: Final = "production"  # the service's own default of SENTRY_ENVIRONMENT


def tell(stage: Stage, first: Host, command: str, id: str) -> None:
    if "GRAPHITE_URL" in {**stage.environment, **stage.secrets}:
        _try("graphite", lambda: _graphite(stage, first, command, id))
    if (sentry := stage.sentry) is not None:
        _try("sentry", lambda: _sentry(stage, sentry, first, id))


def _try(name: str, call: Callable[[], str]) -> None:
    try:
        report.line(report.EVERYWHERE, name, call())
    except (DeployError, OSError, ValueError) as error:
        report.line(report.EVERYWHERE, name, f"was not told, which fails nothing: {error}")


def _graphite(stage: Stage, first: Host, command: str, id: str) -> str:
    text = f"{id}, by {report.who(command)['by']}"
    first.ask("graphite.sh", f"sandbox {command} on {stage.name}", command, text, user="sandbox")
    return f"has an event, {command}"


def _sentry(stage: Stage, sentry: Sentry, first: Host, id: str) -> str:
    [release] = [one for one in phases.look(first).releases if one.id == id]
    environment = {**stage.environment}
    name = environment.get("SENTRY_RELEASE") or f"sandbox@{release.sandbox}"
    for path, body in sentry_calls(sentry, name, release, environment.get("SENTRY_ENVIRONMENT") or ENVIRONMENT):
        _post(sentry, stage, path, body)
    return f"has the release {name}"


def sentry_calls(sentry: Sentry, name: str, release: Release, environment: str) -> list[tuple[str, dict[str, Any]]]:
    """The release, by the name that the service's own reports have; and that it was deployed."""
    base = f"/api/0/organizations/{quote(sentry.organization)}/releases/"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    made = {"version": name, "projects": list(sentry.projects), "ref": release.sha, "dateReleased": now}
    return [
        (base, made),
        (
            f"{base}{quote(name, safe='')}/deploys/",
            {"environment": environment, "name": release.id, "dateFinished": now},
        ),
    ]


def _post(sentry: Sentry, stage: Stage, path: str, body: dict[str, Any]) -> None:
    token = secrets.read_one("of Sentry", sentry.token, stage.project)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = Request(sentry.url.rstrip("/") + path, json.dumps(body).encode(), headers, method="POST")
    try:
        urlopen(request, timeout=SENTRY_SECONDS).close()
    except HTTPError as error:
        with error:
            raise DeployError(
                f"{sentry.url} answers {error.code} {error.read(300).decode(errors='replace')}"
            ) from error
    except HTTPException as error:
        raise DeployError(f"what {sentry.url} answers is no HTTP ({type(error).__name__})") from error
