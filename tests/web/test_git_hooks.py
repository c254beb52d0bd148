"""POST /hooks/git, as GitHub, GitLab, Gitea and Forgejo send it."""

import hashlib
import hmac
import json
from typing import Any

import msgspec
import pytest
from werkzeug.test import TestResponse

from service.observe.metrics import StatsDMetrics
from service.tasks.document import Task
from service.web.api.task_calls import TaskCalls
from service.web.api.workspace_desk import Desk, SeenWorkspace
from service.web.problem import Problem
from service.workspaces import names
from service.workspaces.record import CREATING, DELETING, READY, STATES
from tests.observe.metrics.test_metrics import Lines
from tests.web.estate import EMAIL, SECRET, SLUG, Estate

AL = names.slug("al@example.org")
SHA, OLD, GONE = "5" * 40, "4" * 40, "0" * 40
PUSH: dict[str, Any] = {"ref": f"refs/heads/{EMAIL}", "before": OLD, "after": SHA, "commits": [{"id": SHA}]}


def signed(sent: bytes, secret: bytes = SECRET) -> str:
    return hmac.new(secret, sent, hashlib.sha256).hexdigest()


def headers_of(forge: str, sent: bytes, secret: bytes = SECRET, event: str = "push") -> dict[str, str]:
    signature = signed(sent, secret)
    github = {"X-GitHub-Event": event, "X-Hub-Signature-256": f"sha256={signature}", "X-Hub-Signature": "sha1=x"}
    return {
        "github": github,
        "gitea": {**github, "X-Gitea-Event": event, "X-Gitea-Signature": signature, "X-Gogs-Signature": signature},
        "forgejo": {"X-Forgejo-Event": event, "X-Forgejo-Signature": signature},
        "gitlab": {"X-Gitlab-Event": event.title() + " Hook", "X-Gitlab-Token": secret.decode()},
    }[forge]


def told(estate: Estate, forge: str = "github", body: Any = PUSH, **how: Any) -> TestResponse:
    sent = json.dumps(body).encode()
    return estate.client.post(
        "/hooks/git", data=sent, content_type="application/json", headers=headers_of(forge, sent, **how)
    )


@pytest.mark.parametrize("forge", ["github", "gitlab", "gitea", "forgejo"])
def test_a_push_updates_and_tests_the_workspaces_of_its_branch(estate: Estate, forge: str) -> None:
    estate.record()
    estate.record("al@example.org")
    answer = told(estate, forge)
    assert (answer.status_code, answer.json["workspaces"]) == (202, [SLUG])
    tasks = [estate.task(uid) for uid in answer.json["tasks"]]
    assert [task.type for task in tasks] == ["workspace.update", "workspace.test"]
    assert {task.created_by for task in tasks} == {"hooks/git"}
    assert msgspec.json.decode(tasks[1].args)["after"] == tasks[0].uid  # what runs side by side waits for the new code
    assert len(estate.client.get("/tasks").json["tasks"]) == 2


@pytest.mark.parametrize("forge", ["github", "gitlab", "gitea", "forgejo"])
def test_who_does_not_know_the_secret_changes_nothing(estate: Estate, forge: str) -> None:
    estate.record()
    assert told(estate, forge, secret=b"another").status_code == 403
    assert told(estate, forge, secret=b"").status_code == 403
    assert estate.client.post("/hooks/git", json=PUSH, headers={"X-GitHub-Event": "push"}).status_code == 403
    assert estate.client.get("/tasks").json["tasks"] == []


def test_of_several_signatures_each_has_to_be_right(estate: Estate) -> None:
    sent = json.dumps(PUSH).encode()
    headers = headers_of("gitea", sent) | {"X-Gitea-Signature": "\xe9", "X-Gitlab-Token": SECRET.decode()}
    answer = estate.client.post("/hooks/git", data=sent, content_type="application/json", headers=headers)
    assert answer.status_code == 403


def test_a_body_that_was_changed_on_its_way_is_refused(estate: Estate) -> None:
    sent = json.dumps(PUSH).encode()
    answer = estate.client.post(
        "/hooks/git", data=sent + b" ", content_type="application/json", headers=headers_of("github", sent)
    )
    assert answer.status_code == 403


def test_the_hook_needs_no_token_of_the_service(estate: Estate) -> None:
    app, _ = estate.guarded()
    estate.record()
    sent = json.dumps(PUSH).encode()
    answer = app.test_client().post(
        "/hooks/git", data=sent, content_type="application/json", headers=headers_of("github", sent)
    )
    assert answer.status_code == 202


@pytest.mark.parametrize(
    "body",
    [
        PUSH | {"ref": "refs/heads/another"}, PUSH | {"ref": f"refs/tags/{EMAIL}"}, PUSH | {"after": GONE}, {},
        PUSH | {"ref": EMAIL}, PUSH | {"after": OLD},
    ],
)  # fmt: skip
def test_what_concerns_no_workspace_changes_nothing(estate: Estate, body: Any) -> None:
    estate.record(pushed_sha=OLD)
    answer = told(estate, body=body)
    assert (answer.status_code, answer.json["workspaces"], answer.json["tasks"]) == (200, [], [])
    assert answer.json["detail"]


def test_the_answer_says_what_was_done_and_what_was_left_and_why(estate: Estate) -> None:
    """The main branch is the mirror's."""
    (estate.premises.folder / "mirror.git").mkdir(parents=True)
    (estate.premises.folder / "mirror.git" / "HEAD").write_text("ref: refs/heads/main\n")
    estate.record()
    for branch, status, words in (
        ("main", 200, "no workspace has the main branch, 'main', and so nothing was done"),
        ("another", 200, "no workspace has the branch 'another', and so nothing was done"),
        (EMAIL, 202, f"1 workspace of the branch {EMAIL!r} is updated and tested"),
        (EMAIL, 200, f"1 workspace of the branch {EMAIL!r} is left"),
    ):
        answer = told(estate, body=PUSH | {"ref": f"refs/heads/{branch}"})
        assert answer.status_code == status and words in answer.json["detail"]
    assert answer.json["left"] == [{"workspace": SLUG, "because": "an update waits already, and brings this push, too"}]
    assert "no push" in told(estate, event="ping").json["detail"]
    estate.record("al@example.org", branch="al", state=CREATING)
    [left] = told(estate, body=PUSH | {"ref": "refs/heads/al"}).json["left"]
    assert left["workspace"] == AL and left["because"].startswith("it is creating")


@pytest.mark.parametrize("event", ["ping", "issues", "tag_push", ""])
def test_other_events_change_nothing(estate: Estate, event: str) -> None:
    estate.record()
    for forge in ("github", "gitlab"):
        assert told(estate, forge, body=PUSH | {"zen": 1}, event=event).status_code == 200
    assert estate.client.get("/tasks").json["tasks"] == []


def test_a_push_during_another_action_waits_for_its_end(estate: Estate) -> None:
    estate.record()
    running = estate.client.post(f"/workspaces/{SLUG}/restart").json["task"]["uid"]
    estate.begin(running)
    assert told(estate).status_code == 202
    assert told(estate, body=PUSH | {"after": "6" * 40}).status_code == 200  # the update that waits brings both
    listed = [task["type"] for task in estate.client.get("/tasks").json["tasks"]]
    assert listed == ["workspace.test", "workspace.update", "workspace.restart"]
    assert estate.client.get(f"/workspaces/{SLUG}").json["task"] == running


@pytest.mark.parametrize("refused", [SLUG, AL])
@pytest.mark.parametrize("type", ["workspace.update", "workspace.test"])
def test_what_is_refused_for_one_workspace_keeps_the_push_from_no_other(
    estate: Estate, refused: str, type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = TaskCalls.created

    def refusing(self: TaskCalls, tasks: list[Task]) -> object:
        if tasks[0].type == type and json.loads(bytes(tasks[0].args))["slug"] == refused:
            raise Problem(409, "not this one")
        return created(self, tasks)

    monkeypatch.setattr(TaskCalls, "created", refusing)
    for email in (EMAIL, "al@example.org"):
        estate.record(email, branch=EMAIL)
    answer = told(estate)
    assert answer.status_code == 202
    seen = [(task["type"], task["args"]["slug"]) for task in estate.client.get("/tasks").json["tasks"]]
    wanted = {(each, slug) for each in ("workspace.update", "workspace.test") for slug in (SLUG, AL)}
    late = {("workspace.test", refused)} if type == "workspace.update" else set()
    assert {*seen} == wanted - {(type, refused)} - late


def test_a_push_that_is_refused_for_all_is_told_so(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: object) -> None:
        raise Problem(409, "not this one")

    monkeypatch.setattr(TaskCalls, "created", refusing)
    estate.record()
    answer = told(estate)
    assert (answer.status_code, answer.json["detail"]) == (409, "not this one")


@pytest.mark.parametrize("state", [*STATES])
def test_only_what_is_built_is_updated(estate: Estate, state: str) -> None:
    """Also what has failed after that: the push may mend it."""
    estate.record(state=state)
    assert told(estate).status_code == (202 if state in (READY, "stopped", "asleep", "failed") else 200)
    assert {CREATING, DELETING} <= {*STATES}


@pytest.mark.parametrize("state", ["requested", CREATING, "failed"])
def test_of_what_was_never_built_to_its_end_it_is_said_that_the_push_may_be_missing(estate: Estate, state: str) -> None:
    estate.record(state=state, address=None)
    [left] = told(estate).json["left"]
    assert left["because"].startswith(f"it is {state}, and not built to its end: it may be built without this push")


def test_bodies_that_make_no_sense_are_refused_and_large_ones_are_taken(estate: Estate) -> None:
    estate.record()
    assert told(estate, body=[1]).status_code == 422
    assert told(estate, body={"ref": 1}).status_code == 422
    assert told(estate, body=PUSH | {"commits": ["x" * 1024] * 1024}).status_code == 202
    assert told(estate, body=PUSH | {"commits": ["x" * 1024] * 6 * 1024}).status_code == 413


def test_a_new_secret_counts_at_once_and_without_one_no_hook_is_taken(estate: Estate) -> None:
    (estate.folder / "hook").write_text("new\n")
    assert told(estate).status_code == 403
    assert told(estate, secret=b"new").status_code == 200
    for gone in ((estate.folder / "hook").write_text, lambda _: (estate.folder / "hook").unlink()):
        gone("")
        answer = told(estate, secret=b"")
        assert answer.status_code == 404 and "SANDBOX_WORKSPACE_HOOK" in answer.json["detail"]


def test_all_that_a_push_creates_is_counted(estate: Estate) -> None:
    for email in (EMAIL, "al@example.org"):
        estate.record(email, branch=EMAIL)
    lines = Lines()
    estate.client = estate.app(metrics=StatsDMetrics(lines)).test_client()
    assert told(estate).status_code == 202
    counted = [line for sent in lines.sent for line in sent if ".created:" in line]
    names = [f"tasks.workspaces.workspace_{action}.created:2|c" for action in ("update", "test")]
    assert sorted(line.partition(".")[2] for line in counted) == sorted(names)


def test_a_push_at_the_moment_of_another_action_goes_behind_it(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook is not sent again."""
    estate.record()
    look = Desk.all

    def then_somebody_restarts(desk: Desk) -> list[SeenWorkspace]:
        found = look(desk)
        desk.act(SLUG, "restart")
        return found

    monkeypatch.setattr(Desk, "all", then_somebody_restarts)
    answer = told(estate)
    assert (answer.status_code, answer.json["workspaces"], answer.json["left"]) == (202, [SLUG], [])
    listed = [task["type"] for task in estate.client.get("/tasks").json["tasks"]]
    assert listed == ["workspace.test", "workspace.update", "workspace.restart"]
