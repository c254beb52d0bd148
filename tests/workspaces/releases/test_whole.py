"""The whole service: a push by hook, a button, a reload and a kill in between; a program in the place of fab."""

import json
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.web import token_file
from service.workspaces.releases.ledger import Ledger, LedgerBusy
from tests.servers import eventually
from tests.system.conftest import make_instance  # noqa: F401 - a fixture
from tests.system.instance import SANDBOX, Instance
from tests.web.test_git_hooks import headers_of
from tests.workspaces.releases.ground import Ground

SECRET = b"a secret of the forge"


class Service:
    def __init__(self, ground: Ground, instance: Instance, token: str) -> None:
        self.ground, self.instance, self._token = ground, instance, token

    def call(self, method: str, path: str, body: bytes = b"{}", **headers: str) -> Any:
        given = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}", **headers}
        url = f"http://127.0.0.1:{self.instance.port}{path}"
        asked = urllib.request.Request(url, body if method == "POST" else None, given, method=method)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.loads(answer.read())

    def push(self) -> str:
        """The task that a push begins."""
        sha = self.ground.push()
        sent = json.dumps({"ref": "refs/heads/main", "before": "4" * 40, "after": sha}).encode()
        [uid] = self.call("POST", "/hooks/git", sent, **headers_of("github", sent, SECRET))["tasks"]
        return str(uid)

    def ended(self, uid: str) -> Any:
        def task() -> Any:
            found = self.call("GET", f"/tasks/{uid}")
            return found if found["status"] in ("succeeded", "failed", "cancelled") else None

        return eventually(task, 120)

    def calls(self) -> list[list[str]]:
        return [each["words"][2:] for each in self.ground.told()]


@pytest.fixture
def service(
    make_instance: Callable[..., Instance],  # noqa: F811
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Service]:
    monkeypatch.setenv("HOME", str(folder))
    ground = Ground(folder)
    (folder / "hook").write_bytes(SECRET)
    token = token_file.add(folder / "tokens", "jo", "write")
    instance = make_instance(
        SANDBOX_TOKENS=str(folder / "tokens"),
        SANDBOX_RUNNERS="1",
        SANDBOX_WEB_WORKERS="1",
        SANDBOX_PROMOTE_CLONE=str(ground.place),
        SANDBOX_PROMOTE_TEST="sh check.sh",
        SANDBOX_PROMOTE_PEOPLE="jo",
        SANDBOX_WORKSPACE_HOOK=str(folder / "hook"),
        SANDBOX_LEASE="3",
    )
    yield Service(ground, instance.started(), token)
    (folder / "hang").unlink(missing_ok=True)


@pytest.mark.parametrize("cut_off", ["reload", "kill"])
def test_from_a_push_to_production_with_a_cut_on_the_way(service: Service, cut_off: str) -> None:
    proved = service.ended(service.push())
    assert proved["status"] == "succeeded", proved
    release = proved["result"]["release"]
    lines = service.call("GET", f"/tasks/{proved['uid']}/log")["lines"]
    assert any(release in line["text"] for line in lines)

    hang = service.ground.folder / "hang"
    hang.touch()
    uid = service.call("POST", f"/releases/{release}/promote")["task"]["uid"]
    eventually(lambda: len(service.calls()) == 2, 60)
    if cut_off == "reload":
        reloaded = service.instance.run(*SANDBOX, "reload")
        assert reloaded.returncode == 0, reloaded.stderr
    else:
        [builder] = [each for each in service.instance.kinds()["runner"] if "--builder" in each.command]
        os.kill(builder.pid, signal.SIGKILL)
    eventually(lambda: len(service.calls()) == 3, 60)
    hang.unlink()
    brought = service.ended(uid)
    assert brought["status"] == "succeeded", brought
    assert brought["result"] == {"release": release, "stage": "production"}
    assert (brought["attempt"], brought["failures"], brought["crashes"]) == (2, 0, int(cut_off == "kill"))
    assert service.calls()[1] == service.calls()[2]
    assert service.calls()[2][0] == "production" and service.calls()[2][-1] == release
    assert service.call("GET", "/releases")["current"] == release
    audit = (service.instance.home / "log" / "audit.log").read_text().splitlines()
    [line] = [line for line in map(json.loads, audit) if line["did"] == "promoted"]
    assert (line["by"], line["release"]) == ("jo", release)


def test_a_cancel_ends_the_deploy_and_the_button_is_there_again(service: Service) -> None:
    release = service.ended(service.push())["result"]["release"]
    hang = service.ground.folder / "hang"
    hang.touch()
    uid = service.call("POST", f"/releases/{release}/promote")["task"]["uid"]
    eventually(lambda: len(service.calls()) == 2, 60)
    assert service.call("DELETE", f"/tasks/{uid}")["status"] == "cancelled"
    fab = str(service.ground.place / "deploy").encode()
    eventually(lambda: not any(fab in words for words in command_lines()), 30)
    hang.unlink()
    eventually(lambda: settled(service), 30)
    again = service.ended(service.call("POST", f"/releases/{release}/promote")["task"]["uid"])
    assert again["status"] == "succeeded"


def settled(service: Service) -> bool:
    """And is nobody at it any more? Who asks meanwhile is told to ask again."""
    ledger = Ledger(service.instance.home / "releases")
    try:
        with ledger.locked(patience_seconds=0):
            wish = ledger.read().wish
            return wish is not None and wish.state == "failed"
    except LedgerBusy:
        return False


def command_lines() -> list[bytes]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes())
        except OSError:
            continue
    return found
