"""Workspaces whose records are made by hand: nothing is built. Their actions' tasks end as a test says."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
from werkzeug.serving import make_server

from service.observe.audit import AuditLog
from service.store import Change, Store
from service.tasks import moments, transitions
from service.tasks.document import Task, TaskError
from service.tasks.registry import Registry
from service.web import token_file
from service.web.api.workspace_desk import Premises
from service.web.app import Web
from service.web.auth import Tokens
from service.workspaces import actions, names
from service.workspaces.record import READY, Shelf, Workspace
from service.workspaces.work import Plan

EMAIL = "jo@example.org"
SLUG = names.slug(EMAIL)
SECRET = b"a secret of the forge"


class Estate:
    """The service with workspaces, open and with tokens."""

    def __init__(self, make: Callable[..., Web], store: Store, folder: Path) -> None:
        (folder / "hook").write_bytes(SECRET + b"\n")
        self.store = store
        self.folder = folder
        self.premises = Premises(
            folder / "workspaces",
            most=4,
            most_building=2,
            pythons=("python3", "python3.12"),
            hook_secret=folder / "hook",
            expire_days=30,
        )
        self.shelf = Shelf(folder / "workspaces" / "records")
        types = Registry.load(["service.builtin.demo"])
        for task_type in actions.types(cast(Plan, None)):  # as they are declared; nothing here runs one
            types.add(task_type)
        self._make = make
        self._given: dict[str, Any] = {
            "registry": types, "queues": ("default", "workspaces"), "premises": self.premises,
            "audit": AuditLog(folder, "web"),
        }  # fmt: skip
        self.client = self.app().test_client()

    def app(self, **changed: Any) -> Web:
        return self._make(**(self._given | changed))

    def guarded(self) -> tuple[Web, dict[str, str]]:
        """With the secrets of its tokens, by scope."""
        file = self.folder / "tokens"
        secrets = {scope: token_file.add(file, f"may-{scope}", scope) for scope in token_file.SCOPES}
        return self.app(tokens=Tokens(file)), secrets

    def record(self, email: str = EMAIL, **changed: Any) -> Workspace:
        found = Workspace(
            slug=names.slug(email), email=email, branch=names.branch(email), state=READY,
            address=f"http://{names.slug(email)}.localhost:8080", created_at=moments.stamp(time.time()),
        )  # fmt: skip
        for name, value in changed.items():
            setattr(found, name, value)
        self.shelf.write(found)
        return found

    def begin(self, uid: str) -> Task:
        """As a builder that has claimed the task: its record names it."""
        task = self.task(uid)
        with_it = self.shelf.read(SLUG)
        assert with_it is not None
        with_it.task = uid
        self.shelf.write(with_it)
        return task

    def end(self, uid: str, error: str = "", result: object = None) -> None:
        found = self.store.read(uid)
        assert found is not None
        now = moments.stamp(time.time())
        if error:
            after = transitions.failed(found.task, TaskError(type="HandsFailed", message=error), now, now, 0.5)
        else:
            after = transitions.succeeded(found.task, msgspec.Raw(msgspec.json.encode(result)), now, now, 0.5)
        assert self.store.move([Change(found.text, found.task, after)]).refused == []

    def task(self, uid: str) -> Task:
        found = self.store.read(uid)
        assert found is not None
        return found.task


@contextmanager
def served(app: Web) -> Iterator[str]:
    """The application behind a real socket; the value is its address."""
    server = make_server("127.0.0.1", 0, _limited(app), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _limited(app: Web) -> Callable[..., Any]:
    """As under gunicorn, a body ends where its length says."""

    def call(environ: dict[str, Any], start_response: Any) -> Any:
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        return app(environ, start_response)

    return call
