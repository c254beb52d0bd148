"""POST /hooks/git: a forge tells that somebody has pushed. The branch's workspaces are then updated and tested, and
a release is begun if it is the branch for that.

It shows by a shared secret who it is: GitHub, Gitea and Forgejo sign the body with it (HMAC-SHA256), GitLab sends the
secret itself. Whatever else a forge tells (a ping, a tag, an issue) is answered with a 200, and changes nothing.
"""

import hashlib
import hmac
import logging
from pathlib import Path
from typing import Final

import msgspec
from flask import Blueprint, request
from werkzeug.datastructures import Headers

from service.web import answers, body
from service.web.answers import Answer
from service.web.api.intake import parsed
from service.web.api.pushes import Followed, Push, follow
from service.web.api.release_desk import ReleaseDesk
from service.web.api.workspace_desk import Desk
from service.web.auth import CALLER
from service.web.problem import Problem, not_found

NAME: Final = "hooks"
CALLED: Final = "hooks/git"  # in the place of a token's name; no token has such a one
BODY_LIMIT: Final = 5 * 1024 * 1024  # a push with many commits is large
PUSHES: Final = ("push", "Push Hook")
EVENTS: Final = ("X-GitHub-Event", "X-Gitea-Event", "X-Forgejo-Event", "X-Gitlab-Event")
SIGNATURES: Final = ("X-Hub-Signature-256", "X-Gitea-Signature", "X-Forgejo-Signature")
DELIVERIES: Final = (
    "X-GitHub-Delivery",
    "X-Gitea-Delivery",
    "X-Forgejo-Delivery",
    "Idempotency-Key",
    "X-Gitlab-Event-UUID",
)
BRANCHES: Final = "refs/heads/"
NO_WORKSPACES: Final = "there are no workspaces here, and no release begins with this push: nothing was done"
BEGUN: Final = "a release of this commit is tested, and goes to the first stage"
KNOWN: Final = (
    "this push was told before, and its task %s has ended (%s), so nothing begins; "
    "to release what is there now: sandbox task create release.promote"
)
OFF: Final = "no hook is taken here; whoever runs the service puts a secret into the file SANDBOX_WORKSPACE_HOOK names"

log = logging.getLogger(__name__)


class _Told(msgspec.Struct):
    """What matters of the body of a push; all forges call it the same."""

    ref: str = ""
    before: str = ""
    after: str = ""


_decoder = msgspec.json.Decoder(_Told)


class GitHooks:
    def __init__(self, desk: Desk, releases: ReleaseDesk) -> None:
        self._desk = desk
        self._releases = releases

    def blueprint(self) -> Blueprint:
        calls = Blueprint(NAME, __name__, url_prefix="/hooks")
        calls.add_url_rule("/git", view_func=self.git, methods=["POST"])
        return calls

    def git(self) -> Answer:
        environ = request.environ
        secret = _secret(self._secret_file)
        sent = body.read(environ, BODY_LIMIT)
        if not is_signed(request.headers, sent, secret):
            raise Problem(403, "the signature or the token of this hook is missing or wrong: compare the secrets")
        environ[CALLER] = CALLED
        push = pushed(request.headers, sent)
        begun = self._releases.pushed(push) if push else None
        followed = follow(self._desk, push) if self._desk.is_open else Followed(NO_WORKSPACES)
        found = followed.described()
        is_begun = begun is not None and not begun.finished
        if begun is not None:
            said = BEGUN if is_begun else KNOWN % (begun.uid, begun.status)
            found["tasks"] += [begun.uid] if is_begun else []
            found["detail"] = f"{said}; {found['detail']}" if followed.changed else said
        return answers.json(found, 202 if is_begun or followed.changed else 200)

    @property
    def _secret_file(self) -> Path | None:
        """Raises a problem where neither workspaces nor releases are on."""
        return self._releases.stages.hook_secret if self._releases.is_open else self._desk.premises.hook_secret


def _secret(path: Path | None) -> bytes:
    """Read each time: a new one counts at once."""
    try:
        secret = path.read_bytes().strip() if path else b""
    except OSError as error:
        log.error("the secret of POST /hooks/git cannot be read: %s", error, extra={"once": "hooks"})
        secret = b""
    if not secret:
        raise not_found(OFF)
    return secret


def is_signed(headers: Headers, sent: bytes, secret: bytes) -> bool:
    wanted = hmac.new(secret, sent, hashlib.sha256).hexdigest().encode()
    signatures = [headers[name].removeprefix("sha256=") for name in SIGNATURES if headers.get(name)]
    token = headers.get("X-Gitlab-Token")
    if signatures:
        return all(hmac.compare_digest(_bytes(each), wanted) for each in signatures)
    return token is not None and hmac.compare_digest(_bytes(token), secret)


def _bytes(header: str) -> bytes:
    return header.encode("utf-8", "replace")


def pushed(headers: Headers, sent: bytes) -> Push | None:
    """None for anything but a push to a branch that is there afterwards."""
    if not any(headers.get(name) in PUSHES for name in EVENTS):
        return None
    told = parsed(_decoder, sent)
    is_gone = not told.after.strip("0")
    if is_gone or not told.ref.startswith(BRANCHES):
        return None
    delivery = next((headers[name] for name in DELIVERIES if headers.get(name)), "")
    return Push(told.ref.removeprefix(BRANCHES), told.after, told.before, delivery)
