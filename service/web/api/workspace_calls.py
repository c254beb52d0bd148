"""The calls of /workspaces. Each action is a task: its answer is a 202 with the workspace and that task."""

from functools import partial
from typing import Annotated, Any, Final

import msgspec
from flask import Blueprint, request
from msgspec import Meta

from service.tasks.document import Task
from service.web import answers, body
from service.web.answers import Answer
from service.web.api import listing
from service.web.api.intake import parsed
from service.web.api.log_calls import LogCalls
from service.web.api.own_links import OwnLinks
from service.web.api.pausing import has_body
from service.web.api.workspace_desk import SIMPLE, Desk, SeenWorkspace
from service.web.masking import Masking
from service.web.problem import not_found, wrong
from service.workspaces.names import EMAIL_LIMIT, EXAMPLE

PYTHONS: Final = "a Python of this host, as in python3.12"
END: Final = r"$(?!\n)"  # in Python, $ alone fits before a last newline, too
BRANCHES: Final = ("ours", "keep")  # the branch goes, if its tip is what was pushed from here; or it stays


class NewWorkspace(msgspec.Struct, forbid_unknown_fields=True):
    email: Annotated[str, Meta(max_length=4 * EMAIL_LIMIT, description=f"as in {EXAMPLE}")]
    take_over: Annotated[bool, Meta(description="also a branch of that name that somebody else has made")] = False


class Resuming(msgspec.Struct, forbid_unknown_fields=True):
    take_over: bool = False


class Rebuilding(msgspec.Struct, forbid_unknown_fields=True):
    python: Annotated[str, Meta(pattern=r"^[A-Za-z0-9/][A-Za-z0-9._/+-]{0,254}" + END, description=PYTHONS)] | None = (
        None
    )


class Granting(msgspec.Struct, forbid_unknown_fields=True):
    login: Annotated[
        str, Meta(pattern=r"^[a-z_][a-z0-9_.-]{0,31}" + END, description="an account on this host, as in jo")
    ]


_new = msgspec.json.Decoder(NewWorkspace)
_resuming = msgspec.json.Decoder(Resuming)
_rebuilding = msgspec.json.Decoder(Rebuilding)
_granting = msgspec.json.Decoder(Granting)


class WorkspaceCalls:
    def __init__(self, *, desk: Desk, logs: LogCalls, masking: Masking) -> None:
        self._desk = desk
        self._logs = logs
        self._masking = masking

    def blueprint(self) -> Blueprint:
        calls = Blueprint("workspaces", __name__, url_prefix="/workspaces")
        calls.add_url_rule("", view_func=self.create, methods=["POST"])
        calls.add_url_rule("", view_func=self.list)
        calls.add_url_rule("/<slug>", view_func=self.read)
        calls.add_url_rule("/<slug>", view_func=self.delete, methods=["DELETE"])
        calls.add_url_rule("/<slug>/log", view_func=self.log)
        for action in SIMPLE:
            calls.add_url_rule(f"/<slug>/{action}", action, partial(self.act, action=action), methods=["POST"])
        for view in (self.rebuild, self.access, self.resume, self.extend, self.link):
            calls.add_url_rule(f"/<slug>/{view.__name__}", view_func=view, methods=["POST"])
        return calls

    def create(self) -> Answer:
        asked = parsed(_new, body.read(request.environ))
        seen, is_new = self._desk.request(asked.email, take_over=asked.take_over)
        return self._answer(seen, 202 if is_new else 200)

    def list(self) -> Answer:
        listing.check_names(request.args, ())
        return answers.json({"workspaces": [seen.described() for seen in self._desk.all()]})

    def read(self, slug: str) -> Answer:
        listing.check_names(request.args, ())
        return answers.json(self._desk.one(slug).described())

    def delete(self, slug: str) -> Answer:
        query = request.args
        listing.check_names(query, ("force", "branch"))
        branch = query.get("branch", BRANCHES[0])
        if query.get("force"):
            raise wrong("force: it takes no value", field="force")
        if branch not in BRANCHES:
            raise wrong(f"branch: one of {', '.join(BRANCHES)}", field="branch")
        return self._answer(self._desk.delete(slug, force="force" in query, branch=branch))

    def log(self, slug: str) -> Answer:
        """Of the action that runs now, or was the last one."""
        seen = self._desk.one(slug)
        if seen.task is None:
            raise not_found("nothing has been done with this workspace lately, and so there is no log")
        return self._logs.log(seen.task.uid)

    def act(self, slug: str, action: str) -> Answer:
        return self._answer(self._desk.act(slug, action))

    def rebuild(self, slug: str) -> Answer:
        environ = request.environ
        asked = parsed(_rebuilding, body.read(environ)) if has_body(environ) else Rebuilding()
        return self._answer(self._desk.rebuild(slug, asked.python))

    def access(self, slug: str) -> Answer:
        asked = parsed(_granting, body.read(request.environ))
        return self._answer(self._desk.act(slug, "access", login=asked.login))

    def resume(self, slug: str) -> Answer:
        environ = request.environ
        asked = parsed(_resuming, body.read(environ)) if has_body(environ) else Resuming()
        return self._answer(self._desk.resume(slug, take_over=asked.take_over))

    def extend(self, slug: str) -> Answer:
        return self._answer(self._desk.extend(slug), 200)

    def link(self, slug: str) -> Answer:
        """It is shown by a POST, because who has it may change things."""
        return answers.json({"link": OwnLinks(self._desk.premises.folder).of(self._desk.one(slug).workspace)})

    def _answer(self, seen: SeenWorkspace, status: int = 202) -> Answer:
        place = [("Location", f"/workspaces/{seen.workspace.slug}")]
        return answers.json({"workspace": seen.described(), "task": self._shown(seen.task)}, status, place)

    def _shown(self, task: Task | None) -> dict[str, Any] | None:
        return None if task is None else self._masking.listed(task)
