"""A person's way, in Chromium, with a whole service and a real project: an email, a button, a page of one's own; a push
that shows; and nothing left of it in the end."""

import hashlib
import hmac
import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from service.web import token_file
from service.workspaces import names
from tests.servers import BUSY, free_port
from tests.system.instance import SANDBOX, Instance
from tests.workspaces.conftest import small_project
from tests.workspaces.yard import Yard

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
EMAIL = "jo@example.org"
SLUG = names.slug(EMAIL)
SECRET = b"between the forge and us"
LIMIT_MS = 60_000 * BUSY

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning", "default::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed; `apt-get install chromium` does it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class House:
    def __init__(self, folder: Path) -> None:
        self.yard = Yard(folder, source=small_project(folder))
        (folder / "hook").write_bytes(SECRET)
        self.token = token_file.add(folder / "tokens", "admin", "write")
        self.instance = Instance(
            folder, SANDBOX_WORKSPACE_GIT=str(self.yard.origin), SANDBOX_WORKSPACES=str(self.yard.places.root),
            SANDBOX_WORKSPACE_DOMAIN=f"localhost:{free_port()}", SANDBOX_WORKSPACE_HOOK=str(folder / "hook"),
            SANDBOX_TOKENS=str(folder / "tokens"), SANDBOX_TOKEN=self.token, SANDBOX_WEB_WORKERS="1",
            SANDBOX_RUNNERS="1",
        )  # fmt: skip
        self.url = f"http://127.0.0.1:{self.instance.port}"

    def tell_of_a_push(self, branch: str, sha: str) -> int:
        """As GitHub does it."""
        sent = json.dumps({"ref": f"refs/heads/{branch}", "after": sha}).encode()
        signature = hmac.new(SECRET, sent, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json", "X-GitHub-Event": "push", "X-Hub-Signature-256": f"sha256={signature}",
        }  # fmt: skip
        request = urllib.request.Request(f"{self.url}/hooks/git", sent, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)


@pytest.fixture
def house(folder: Path) -> Iterator[House]:
    made = House(folder)
    try:
        made.instance.started()
        yield made
    finally:
        made.instance.clean_up()
        made.yard.close()


@pytest.mark.slow
@pytest.mark.ci
def test_a_workspace_from_the_button_to_its_end(house: House, browser: Browser) -> None:
    page = browser.new_context().new_page()
    page.set_default_timeout(LIMIT_MS)
    expect.set_options(timeout=LIMIT_MS)
    page.goto(f"{house.url}/ui/workspaces")
    page.get_by_label("API token").fill(house.token)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Email").fill(EMAIL)
    page.get_by_role("button", name="Make a workspace").click()
    expect(page.locator("#head .badge")).to_have_text("ready")
    expect(page.locator("#lines")).to_contain_text("address")
    page.get_by_role("button", name="A link for this person").click()
    link = page.locator("#own-link").inner_text()

    person = browser.new_context().new_page()
    person.set_default_timeout(LIMIT_MS)
    person.goto(link)
    expect(person.get_by_role("heading", level=1)).to_contain_text(EMAIL)
    address = person.locator("#head a").get_attribute("href") or ""
    person.goto(address)
    expect(person.locator("body")).to_contain_text("hello")

    sha = house.yard.push(EMAIL, "text", "good day")
    assert house.tell_of_a_push(EMAIL, sha) == 202
    person.goto(f"{house.url}/ui/workspaces/{SLUG}")
    expect(person.locator("#steps")).to_contain_text(sha[:12])  # of the tests
    expect(person.locator("#steps")).to_contain_text("They passed.")
    expect(person.locator("#log h2")).to_contain_text("workspace.test succeeded")
    expect(person.locator("#lines")).to_contain_text("tested")
    person.goto(address)
    expect(person.locator("body")).to_contain_text("good day")

    person.goto(f"{house.url}/ui/workspaces/{SLUG}")
    person.get_by_role("button", name="Stop").click()
    expect(person.locator("#head .badge")).to_have_text("stopped")
    done = house.instance.run(*SANDBOX, "workspace", "delete", SLUG, "--force", "--wait", SANDBOX_URL=house.url)
    assert done.returncode == 0, done.stderr
    expect(person.locator("#head .badge")).to_have_text("deleted")
    assert house.yard.branches()[EMAIL] == sha  # its tip is not what was pushed from here
    page.goto(f"{house.url}/ui/workspaces")
    expect(page.locator("#workspaces")).to_contain_text("There are no workspaces yet.")
