"""The page in Chromium: with and without JavaScript, both scopes, light and dark, wide and narrow."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec import Raw
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from service.store import SCRIPTS, AtWork, Change, Executing, Session, Store, Tally, layout
from service.store.connection import connect
from service.tasks import moments, schedule, transitions
from service.tasks.document import Task, TaskError
from service.tasks.limit_rule import Bounds, LimitRule
from service.tasks.lines import Unstored
from service.tasks.schedule import CODE, Terms
from service.tasks.uid import random_prefix
from service.web import token_file
from service.workspaces import names
from service.workspaces.record import DELETED, FAILED, READY, Shelf, Workspace
from tests.conftest import _folder
from tests.servers import BUSY, RedisServer, eventually
from tests.web.conftest import WebServer

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text()
LIMIT_MS = 10_000 * BUSY
WORKSPACE = "someone-with-a-rather-long-name-{}@a-department.example.org"
HOUSED = (READY, FAILED, DELETED)

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning", "default::pytest.PytestUnraisableExceptionWarning")


class World(NamedTuple):
    """The service twice, on one Redis: open, and with tokens."""

    open: WebServer
    guarded: WebServer
    secrets: dict[str, str]
    store: Store
    tasks: dict[str, Task]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with _folder() as folder:
        redis = RedisServer(folder).start()
        home = tmp_path_factory.mktemp("page")
        (home / "a").mkdir()
        (home / "b").mkdir()
        tokens = home / "tokens"
        secrets = {scope: token_file.add(tokens, f"alice-{scope}", scope) for scope in token_file.SCOPES}
        variables = {"SANDBOX_WORKSPACE_GIT": str(home / "nowhere.git"), "SANDBOX_WORKSPACES": str(home / "ws")}
        servers = [
            WebServer(home / "a", redis.url, workers=1, **variables),
            WebServer(home / "b", redis.url, workers=1, SANDBOX_TOKENS=str(tokens), **variables),
        ]
        house(home / "ws")
        store = Store(connect(redis.url, SCRIPTS))
        try:
            for server in servers:
                server.start()
            yield World(*servers, secrets, store, fill(store))
        finally:
            for server in servers:
                server.stop()
            store.close()
            redis.stop()


def fill(store: Store) -> dict[str, Task]:
    """A task in each status that people look at."""
    made = {}
    for number, status in enumerate(("queued", "succeeded", "failed", "cancelled")):
        args = json.dumps({"message": f"a message that is rather long, number {number}", "password": "hidden"}).encode()
        task = new(store, args)
        made[status] = finish(store, task, status)
        log(store, task.uid, "10 rows", "a line that is so long that it has to be broken somewhere: " + "x" * 300)
    count(store, "succeeded", 300)
    count(store, "failed", 20)
    store.history.gauge(time.time(), {"queue:default": (7, 2, 0, 3)})
    store.history.mark(time.time_ns() // 1000, {"at": moments.stamp(time.time()), "what": "start", "watcher": "web"})
    plan = Terms(type="echo", cron="*/5 9-17 * * MON-FRI", timezone="Europe/Prague")
    store.schedules.change(
        "nightly",
        lambda before, now: schedule.put(before, "nightly", plan, paused=False, source=CODE, now=now, by="alice"),
    )
    own = {
        "a-customer-with-a-rather-long-name@a-department.example.org": Bounds(concurrency=10, rate="5/second", burst=2)
    }
    store.limits.put("per-customer", LimitRule("args.message", concurrency=2, rate="100/minute", overrides=own))
    executing = [Executing(uid=made["queued"].uid, type="echo", queue="default", since=moments.stamp(time.time()))]
    store.roster.enter(
        AtWork(
            runner="a", host="host1", pid=4711, release="/srv/releases/42", started_at=moments.stamp(time.time()),
            memory=41943040, queues=["default"], threads=3, executing=executing,
            reads=layout.READS,
        )
    )  # fmt: skip
    return made


def house(folder: Path) -> None:
    """Workspaces, with all that a page can show of them."""
    for number, state in enumerate(HOUSED):
        email = WORKSPACE.format(number)
        slug = names.slug(email)
        Shelf(folder / "records").write(
            Workspace(
                slug=slug,
                email=email,
                branch=email,
                state=state,
                step="venv",
                created_at=moments.stamp(time.time()),
                steps={"mirror": "done", "clone": "done", "venv": "intent"},
                address=f"http://{slug}.localhost:8090",
                unpushed=["commit 5f3e1c2 with a subject that is rather long, as subjects are"] * 3,
                disk_mb=120,
                pushed_sha="5f3e" * 10,
                python="python3.11",
                error="pip: no such thing" if "failed" in state else None,
                test={"passed": True, "sha": "5f3e" * 10},
                logins=["jo"],
                paths={"code": f"/srv/ws/w/{slug}/code"},
            )
        )


def new(store: Store, args: bytes = b'{"message":"hello"}') -> Task:
    now = moments.stamp(time.time())
    task = Task(
        uid=store.uid(random_prefix()), type="echo", queue="default", status="queued", args=Raw(args), created_at=now
    )
    assert store.create([task]) == []
    return task


def log(store: Store, uid: str, *lines: str) -> None:
    said = Unstored(1)
    for line in lines:
        said.add("info", line)
    portion = said.take(lambda text: text)
    assert portion is not None
    store.logbook.write([(uid, portion)])


def count(store: Store, status: str, number: int) -> None:
    """As if so many attempts had ended so, a moment ago."""
    now = moments.stamp(time.time())
    task = Task(uid="0" * 64, type="echo", queue="default", status=status, created_at=now, started_at=now, duration=0.2)
    tally = Tally()
    tally.outcomes(time.time(), [task] * number, [""] * number)
    store.history.add(str(time.time_ns()), 1, tally.take())


def finish(store: Store, task: Task, status: str) -> Task:
    found = store.read(task.uid)
    assert found is not None
    now = moments.stamp(time.time())
    kind = "TheArchiveHasNoReportOfTheMonthThatWasAskedForAtThisTimeOfTheYearError"
    error = TaskError(type=kind, message="there is no month 13\n  in line 2", event_id="0f" * 16)
    after = {
        "queued": lambda: None,
        "succeeded": lambda: transitions.succeeded(found.task, Raw(b'{"rows": [1, 2, 3]}'), now, now, 0.031),
        "failed": lambda: transitions.failed(found.task, error, now, now, 1.5),
        "cancelled": lambda: transitions.cancelled(found.task, now),
    }[status]()
    if after is not None:
        assert store.move([Change(found.text, found.task, after)]).refused == []
    return after or found.task


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed; `apt-get install chromium` does it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


Open = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser, world: World) -> Iterator[Open]:
    """Opens a page in a browser of its own; `complaints` of the page is what the browser's console says."""
    contexts: list[BrowserContext] = []

    def visit(path: str = "/ui", server: WebServer | None = None, scope: str = "", **options: Any) -> Page:
        context = browser.new_context(**({"viewport": WIDE} | options))
        contexts.append(context)
        context.set_default_timeout(LIMIT_MS)
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.complaints = complaints  # type: ignore[attr-defined]
        page.base = (server or (world.guarded if scope else world.open)).url  # type: ignore[attr-defined]
        if scope:
            sign_in(page, world.secrets[scope])
        goto(page, path)
        return page

    yield visit
    for context in contexts:
        context.close()


def goto(page: Page, path: str) -> None:
    page.goto(page.base + path)  # type: ignore[attr-defined]


def sign_in(page: Page, secret: str) -> None:
    goto(page, "/ui")
    page.get_by_label("API token").fill(secret)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Overview").wait_for()


def places(world: World) -> list[str]:
    tasks = [f"/ui/tasks/{task.uid}" for task in world.tasks.values()]
    forms = ["/ui/types/echo", f"/ui/types/echo?from={world.tasks['failed'].uid}"]
    acts = ["/ui/tasks?status=failed", "/ui/tasks/all?do=retry&status=failed"]
    housed = [f"/ui/workspaces/{names.slug(WORKSPACE.format(number))}" for number in range(len(HOUSED))]
    times = ["/ui/schedules", "/ui/schedules/nightly"]
    others = [
        *times,
        "/ui/workspaces",
        *housed,
        "/ui/queues",
        "/ui/limits",
        "/ui/limits/per-customer",
        "/ui/types",
        "/ui/runners",
        "/ui/audit",
        "/ui/no",
    ]
    return ["/ui", "/ui?span=31d", "/ui/tasks", *acts, *tasks, *forms, *others]


# With JavaScript, each two of scope, scheme and size come together once.
WAYS = [
    (True, "read", "light", WIDE),
    (True, "read", "dark", NARROW),
    (True, "write", "light", NARROW),
    (True, "write", "dark", WIDE),
    (False, "read", "light", NARROW),
    (False, "write", "dark", WIDE),
]


@pytest.mark.parametrize(("script", "scope", "scheme", "size"), WAYS)
def test_every_page_is_whole(
    world: World, visit: Open, script: bool, scope: str, scheme: str, size: dict[str, int]
) -> None:
    page = visit(scope=scope, java_script_enabled=script, color_scheme=scheme, viewport=size)
    for place in places(world):
        goto(page, place)
        assert page.locator("h1").count() == 1, place
        buttons = page.locator("main button:visible, main a.button").count()
        if scope == "read":
            assert buttons == page.locator("form.filters button:visible, a.button:text-is('Back')").count(), place
        if script:
            overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.evaluate(overflow) <= 0, f"{place} is wider than the window"
            assert found_by_axe(page) == [], place
    expected = [each for each in page.complaints if "404" not in each]  # type: ignore[attr-defined]
    assert expected == []


def found_by_axe(page: Page) -> list[str]:
    page.evaluate(AXE)
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        f"{each['id']}: {node['html'][:120]} {node['any'][0]['message'] if node['any'] else ''}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


def test_the_head_of_a_page_breaks_in_no_odd_place(visit: Open) -> None:
    """The pages stand in one row, and beside them or above them the rest; on a phone the search has a row, too."""
    page = visit("/ui/audit", scope="read")
    rows = "selector => new Set([...document.querySelectorAll(selector)].map(each => each.offsetTop)).size"
    for width in range(360, 1720, 40):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(rows, ".top li") == 1, width
        assert page.evaluate("document.querySelector('.top').offsetHeight") < (140 if width < 740 else 100), width
        assert page.evaluate("document.documentElement.scrollWidth") == width
    page = visit("/ui/audit", viewport={"width": 360, "height": 800})
    assert page.evaluate("document.querySelector('.top [aria-current]').getBoundingClientRect().right") < 360


def test_the_form_to_sign_in_is_whole(world: World, visit: Open) -> None:
    for scheme in ("light", "dark"):
        page = visit("/ui/sign-in", world.guarded, color_scheme=scheme)
        assert found_by_axe(page) == []
        assert page.complaints == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("script", [True, False])
def test_a_task_is_created_found_cancelled_and_tried_again(world: World, visit: Open, script: bool) -> None:
    page = visit("/ui/types", scope="write", java_script_enabled=script)
    page.get_by_role("link", name="echo", exact=True).click()
    page.get_by_label("message").fill('"by hand"')
    page.get_by_role("button", name="Create", exact=True).click()
    page.get_by_text("The task is created.").wait_for()
    uid = page.url.rpartition("/")[2]
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("The task is cancelled.").wait_for()

    page.get_by_role("link", name="Tasks", exact=True).click()
    page.get_by_label("Status").select_option("cancelled")
    page.get_by_role("button", name="Filter").click()
    page.get_by_label(f"Choose {uid[:8]}").check()
    page.get_by_role("button", name="Retry chosen").click()
    page.get_by_text("Retry 1 task?").wait_for()
    page.get_by_role("button", name="Retry it").click()
    page.get_by_text("1 task was queued again.").wait_for()
    assert "status=cancelled" in page.url
    page.get_by_label("Find a task").fill(uid)
    page.get_by_label("Find a task").press("Enter")
    page.get_by_text("queued", exact=True).wait_for()

    page.get_by_role("link", name="Run again with changes").click()
    page.get_by_label("message").fill('"changed"')
    page.get_by_role("button", name="Create", exact=True).click()
    page.get_by_text("The task is created.").wait_for()
    assert page.url.rpartition("/")[2] != uid


def test_a_double_click_creates_one_task(world: World, visit: Open) -> None:
    page = visit("/ui/types/echo")
    marked = f'"twice {time.time_ns()}"'
    page.get_by_label("message").fill(marked)
    page.get_by_role("button", name="Create", exact=True).dblclick()
    page.get_by_text("The task is created.").wait_for()
    found, _ = world.store.index.page(limit=50)
    assert [bytes(task.args) for task in found].count(f'{{"message":{marked}}}'.encode()) == 1


def test_a_page_refreshes_in_place_and_what_was_ticked_stays(world: World, visit: Open) -> None:
    page = visit("/ui/tasks")
    page.evaluate("window.same = true")
    task = new(world.store)
    page.locator(f"#row-{task.uid}").wait_for()
    box = page.get_by_label(f"Choose {task.uid[:8]}")
    box.check()
    finish(world.store, task, "failed")
    page.evaluate("refresh()")
    page.locator(f"#row-{task.uid} .badge.failed").wait_for()
    assert box.is_checked() and page.evaluate("window.same")


def test_a_tasks_page_follows_it_to_its_end(world: World, visit: Open) -> None:
    task = new(world.store)
    page = visit(f"/ui/tasks/{task.uid}")
    finish(world.store, task, "failed")
    page.get_by_text("there is no month 13").wait_for()
    eventually(lambda: page.evaluate("document.body.dataset.refresh") == "", 10 * BUSY)


def test_a_tasks_log_comes_as_it_is_written(world: World, visit: Open) -> None:
    """Signed in: the stream of events is read with the cookie. Long after this, the page would ask for itself."""
    task = new(world.store)
    page = visit(f"/ui/tasks/{task.uid}", scope="read")
    eventually(lambda: page.evaluate("events !== null && events.readyState === 1"), 20 * BUSY)
    page.evaluate("document.body.dataset.refresh = ''; tick()")
    log(world.store, task.uid, "the first line")
    page.get_by_text("the first line").wait_for()
    log(world.store, task.uid, '<b onclick="x">\u202ehostile</b>', "the last line")
    page.get_by_text("the last line").wait_for()
    lines = page.locator("#lines .line")
    assert lines.count() == 3 and "\u202e" not in str(lines.nth(1).text_content())
    assert "<b onclick" in str(lines.nth(1).text_content()) and page.locator("#lines b").count() == 0
    page.evaluate("refresh()")
    finish(world.store, task, "succeeded")
    page.locator("#head .badge.succeeded").wait_for()
    assert lines.count() == 3 and page.evaluate("events") is None
    assert page.complaints == []  # type: ignore[attr-defined]


def test_charts_are_drawn_and_drawn_anew_without_a_complaint(world: World, visit: Open) -> None:
    page = visit("/ui")
    page.locator("#chart-succeeded canvas").wait_for()
    before = page.locator("#curves-failures").get_attribute("data-chart")
    count(world.store, "failed", 500)
    eventually(lambda: refreshed(page) != before, 20 * BUSY, 0.2)
    assert page.locator("#chart-failures canvas").count() == 1
    page.locator("#table-failures summary").click()
    page.evaluate("refresh()")
    assert page.locator("#table-failures[open] tbody tr").count() == 60
    page.set_viewport_size(NARROW)
    page.get_by_role("link", name="a month").click()
    page.locator("#chart-failures canvas").wait_for()
    assert page.complaints == []  # type: ignore[attr-defined]


def test_a_value_between_two_gaps_is_seen(visit: Open) -> None:
    page = visit("/ui")
    page.locator("#chart-succeeded canvas").wait_for()
    values = [None, 3, None, 1, 2, None, 0]
    assert page.evaluate("values => lonely({data: [[], values]}, 1)", values) == [1, 6]


def refreshed(page: Page) -> str | None:
    page.evaluate("refresh()")
    return page.locator("#curves-failures").get_attribute("data-chart")


def test_charts_are_there_without_javascript(visit: Open) -> None:
    page = visit("/ui", java_script_enabled=False)
    assert "M" in str(page.locator("#chart-succeeded path.good").get_attribute("d"))


@pytest.mark.parametrize("script", [True, False])
def test_all_that_match_are_cancelled_after_a_question(world: World, visit: Open, script: bool) -> None:
    marked = f"bulk{time.time_ns()}"
    for _ in range(3):
        new(world.store, f'{{"message":"{marked}"}}'.encode())
    page = visit(f"/ui/tasks?status=queued&q=args.message={marked}", scope="write", java_script_enabled=script)
    page.get_by_role("link", name="Cancel all that match").click()
    page.get_by_role("heading", name="Cancel 3 tasks?").wait_for()
    page.get_by_role("button", name="Cancel them all").click()
    page.get_by_text("All that the filter shows are being cancelled").wait_for()
    assert marked in page.url and "status=queued" in page.url
    page.get_by_role("link", name="how far that is").click()
    page.get_by_role("heading", name="sandbox.cancel").wait_for()


@pytest.mark.parametrize("script", [True, False])
def test_a_limit_is_set_changed_and_removed(world: World, visit: Open, script: bool) -> None:
    name = f"partner-{script}".lower()
    page = visit("/ui/limits", java_script_enabled=script)
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Rate").fill("fast")
    page.get_by_text("Single keys").click()
    page.get_by_label("Overrides").fill("acme: concurrency=10")
    page.get_by_role("button", name="Set the limit").click()
    page.get_by_role("alert").get_by_text("as in 100/minute").wait_for()
    assert page.get_by_label("Name", exact=True).input_value() == name
    page.get_by_label("Rate").fill("100/minute")
    page.get_by_label("Key", exact=True).fill("args.message")
    page.get_by_role("button", name="Set the limit").click()
    page.get_by_text("The limit is set.").wait_for()
    assert page.get_by_label("Overrides").input_value() == "acme: concurrency=10"
    page.get_by_label("Concurrency").fill("3")
    page.get_by_role("button", name="Change the limit").click()
    page.get_by_text("The limit is changed.").wait_for()
    assert world.store.limits.now()[name].rule == LimitRule(
        "args.message", concurrency=3, rate="100/minute", overrides={"acme": Bounds(concurrency=10)}
    )
    page.get_by_text("Remove", exact=True).click()
    page.get_by_role("button", name="Yes, remove it now").click()
    page.get_by_text(f"The limit {name} is removed.").wait_for()
    assert name not in world.store.limits.now()
    assert [each for each in page.complaints if "422" not in each] == []  # type: ignore[attr-defined]


def test_a_page_says_that_the_service_does_not_answer(world: World, visit: Open) -> None:
    page = visit("/ui")
    page.context.set_offline(True)
    page.evaluate("refresh()")
    page.get_by_text("the service does not answer now").wait_for()
    page.context.set_offline(False)
    page.evaluate("refresh()")
    page.get_by_text("the service does not answer now").wait_for(state="hidden")


def test_a_page_whose_refresh_is_refused_says_so_and_goes_on(world: World, visit: Open) -> None:
    task = new(world.store)
    page = visit(f"/ui/tasks/{task.uid}")
    period = page.evaluate("document.body.dataset.refresh")
    assert float(period) > 0
    page.route("**/ui/tasks/*", lambda route: route.fulfill(status=429, body="<p>too many</p>"))
    page.evaluate("refresh()")
    page.get_by_text("the service answers 429 now").wait_for()
    assert page.evaluate("document.body.dataset.refresh") == period
    page.unroute("**/ui/tasks/*")
    page.evaluate("refresh()")
    page.get_by_text("the service answers 429 now").wait_for(state="hidden")
    world.store._wire.call(0, ("DEL", task.uid))
    page.evaluate("refresh()")
    page.get_by_text("what it shows is gone").wait_for()
    assert page.evaluate("document.body.dataset.refresh") == period


def test_the_page_that_shows_a_workspaces_link_is_refreshed_like_any_other(visit: Open) -> None:
    place = f"/ui/workspaces/{names.slug(WORKSPACE.format(0))}"
    page = visit(place, scope="write")
    page.get_by_role("button", name="A link for this person").click()
    page.locator("#own-link").wait_for()
    page.wait_for_url(f"**{place}")
    page.evaluate("refresh()")
    assert page.locator("#stale").is_hidden() and page.evaluate("Number(document.body.dataset.refresh)") > 0
    assert page.locator("#own-link").is_visible()
    assert page.complaints == []  # type: ignore[attr-defined]


def test_when_the_token_is_gone_the_page_asks_for_another(world: World, visit: Open) -> None:
    file = Path(str(world.guarded._environment["SANDBOX_TOKENS"]))
    secret = token_file.add(file, "brief", "read")
    page = visit("/ui/sign-in", world.guarded)
    sign_in(page, secret)
    token_file.remove(file, "brief")
    page.evaluate("refresh()")
    page.get_by_role("heading", name="Sign in").wait_for()


def test_a_link_signs_in(world: World, visit: Open) -> None:
    tokens = token_file.read(Path(str(world.guarded._environment["SANDBOX_TOKENS"])))
    [alice] = [Session(token.name, token.hash) for token in tokens if token.name == "alice-read"]
    page = visit(f"/ui/sign-in?code={world.store.sessions.make_code(alice)}", world.guarded)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Overview").wait_for()
    [cookie] = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")


def test_the_keys_work(world: World, visit: Open) -> None:
    page = visit("/ui/tasks")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "q"
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    rows = page.locator("tr[data-row]")
    assert "at" in str(rows.nth(0).get_attribute("class"))
    page.keyboard.press("x")
    assert rows.nth(0).locator("input").is_checked()
    page.keyboard.press("?")
    page.get_by_role("heading", name="Keys").wait_for()
    assert found_by_axe(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    page.get_by_text("stopped; s goes on refreshing").wait_for()
    with page.expect_response("**/ui/tasks"):
        page.keyboard.press("r")
    uid = str(rows.nth(0).get_attribute("id")).removeprefix("row-")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/ui/tasks/{uid}")


def test_light_and_dark_can_be_chosen_without_javascript(visit: Open) -> None:
    page = visit("/ui/queues", java_script_enabled=False, color_scheme="light")
    page.get_by_role("button", name="Colours").click()
    assert page.locator("html").get_attribute("data-look") == "dark" and page.url.endswith("/ui/queues")
    page.get_by_role("button", name="Colours").click()
    page.get_by_role("button", name="Colours").click()
    assert page.locator("html").get_attribute("data-look") is None
