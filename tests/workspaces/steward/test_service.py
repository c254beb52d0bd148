"""What people do with a whole service whose workspaces are isolated: many at once, a push, another Python, a kill."""

import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from service.workspaces import names
from tests.deploy.conftest import needs_namespaces
from tests.workspaces.steward.served import ServedHost
from tests.workspaces.steward.stage import BASE
from tests.workspaces.steward.test_kills import system

PROJECT = {
    "requirements.txt": "gunicorn\n",
    "Procfile": "web: gunicorn --workers 2 app:app\ntest: python -c 'import app'\n",
    "text": "hello",
    "app.py": """
import os
def app(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    with open("text") as file:
        text = file.read().strip()
    return [f"{os.getuid()} {text} {os.path.realpath(os.environ['VIRTUAL_ENV'])[-1]}".encode()]
""",
}
NUMBERS = count()
EMAILS = ["a.b@example.org", "a-b@example.org", *(f"person{number}@example.org" for number in range(18))]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def house(wheels: str) -> Iterator[ServedHost]:
    needs_namespaces()
    with tempfile.TemporaryDirectory(prefix="sandbox-served-") as folder:
        key = Path(folder, "key")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        made = ServedHost(Path(folder), key, wheels)
        try:
            made.push("main", PROJECT)
            made.stage.host.sh(f"install -d -o sandbox {BASE}/pages")  # which stays, empty
            made.start()
            yield made
        finally:
            made.stage.end()


def test_twenty_are_made_at_once_and_go_without_a_trace(house: ServedHost) -> None:
    before = system(house.stage)
    tasks = {email: house.request("POST", "/workspaces", {"email": email}) for email in EMAILS}
    status, again = house.call("POST", "/workspaces", {"email": EMAILS[0]})
    assert status == 200 and again["workspace"]["slug"] == names.slug(EMAILS[0])
    slugs = [house.done(uid)["result"]["slug"] for uid in tasks.values()]
    assert len(set(slugs)) == len(EMAILS)
    uids = set()
    for slug in slugs:
        status, text = house.page(slug)
        uid = house.stage.uid(slug)
        assert (status, text) == (200, f"{uid} hello 1")
        uids.add(uid)
    assert len(uids) == len(EMAILS)
    assert house.branches() == sorted(["main", *EMAILS])

    ends = [house.request("DELETE", f"/workspaces/{slug}") for slug in slugs]
    assert {house.done(uid)["result"]["state"] for uid in ends} == {"deleted"}
    assert house.branches() == ["main"]
    assert system(house.stage) == before


@pytest.fixture
def email(house: ServedHost) -> Iterator[str]:
    """Of somebody who has a workspace, and had none before."""
    email = f"{next(NUMBERS)}@example.org"
    house.done(house.request("POST", "/workspaces", {"email": email}))
    yield email
    if house.call("GET", f"/workspaces/{names.slug(email)}")[0] == 200:
        house.done(house.request("DELETE", f"/workspaces/{names.slug(email)}?force"))


def test_a_push_is_updated_tested_and_shown(house: ServedHost, email: str) -> None:
    slug = names.slug(email)
    sha = house.push(email, {"text": "good day"})
    update, test = house.tell_of_a_push(email, sha)
    assert house.done(update)["result"]["to"] == sha
    assert house.done(test)["result"]["passed"]
    shown = house.workspace(slug)
    assert (shown["test"]["sha"], shown["test"]["passed"], shown["state"]) == (sha, True, "ready")
    assert house.page(slug) == (200, f"{house.stage.uid(slug)} good day 1")


def test_a_person_works_in_it_with_a_login(house: ServedHost, email: str) -> None:
    slug = names.slug(email)
    code = f"{BASE}/w/{slug}/code"
    house.done(house.request("POST", f"/workspaces/{slug}/access", {"login": "jo"}))
    house.person(f"git config --global user.name jo; git config --global user.email {email}")
    house.person(f"git config --global --add safe.directory {code}")
    house.person(f"cd {code}; echo mine >text")
    assert house.page(slug) == (200, f"{house.stage.uid(slug)} mine 1")
    refused, answer = house.call("DELETE", f"/workspaces/{slug}")
    task = house.ended(answer["task"]["uid"]) if refused == 202 else {}
    assert task["status"] == "failed" and "uncommitted:  M text" in task["error"]["message"], task
    sha = house.person(f"cd {code}; git commit -qam 'My text'; git push -q; git rev-parse HEAD")
    assert house.person(f"git ls-remote {house.repository} refs/heads/{email}").split()[0] == sha
    house.done(house.request("POST", f"/workspaces/{slug}/update"))
    assert house.page(slug) == (200, f"{house.stage.uid(slug)} mine 1")
    house.done(house.request("DELETE", f"/workspaces/{slug}"))
    assert email in house.branches()  # its tip is not what was pushed from here


def test_a_rebuild_to_another_python_under_load_fails_no_request(house: ServedHost, email: str) -> None:
    slug = names.slug(email)
    asked = {"python": house.other_python}
    with visited(house, slug) as seen:
        house.done(house.request("POST", f"/workspaces/{slug}/rebuild", asked))
    assert {status for status, _ in seen} == {200}
    assert {text[-1] for _, text in seen} == {"1", "2"}  # the virtualenv that it was answered by
    assert house.workspace(slug)["python"] == house.other_python
    with visited(house, slug) as seen:
        house.done(house.request("POST", f"/workspaces/{slug}/restart"))
    assert {status for status, _ in seen} == {200}


def test_workspaces_answer_whatever_becomes_of_the_service(house: ServedHost, email: str) -> None:
    slug = names.slug(email)
    before = house.stage.do("status", slug)["pid"]
    with visited(house, slug) as seen:
        assert "sandbox: /srv/here serves" in (said := house.command("reload")), said
        assert "has been restarted" in (said := house.command("restart")), said
        house.end("KILL")
        house.start()
        house.end("TERM")
        house.start()
    assert {status for status, _ in seen} == {200}
    assert house.stage.do("status", slug)["pid"] == before
    house.done(house.request("POST", f"/workspaces/{slug}/restart"))


@contextmanager
def visited(house: ServedHost, slug: str) -> Iterator[list[tuple[int, str]]]:
    """What a browser gets meanwhile."""
    seen: list[tuple[int, str]] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            seen.append(house.page(slug))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield seen
    finally:
        over.set()
        asking.join()
