"""Tells a forge how the tests of a commit stand: a POST to a commit status URL, as GitHub, GitLab and Gitea take it.

All three read the same members of a JSON object; only GitLab has other words for the states. The token stands in the
headers alone. Nothing here fails its caller: what cannot be told is logged. An exchange runs in a thread that can be
left, so that a forge which drips, or a task's interruption, is waited for no longer than a moment.
"""

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from service.workspaces.hands import Speaker

PENDING, SUCCESS, FAILURE, ERROR = "pending", "success", "failure", "error"
CONTEXT: Final = "sandbox"
DESCRIPTION_LIMIT: Final = 140  # GitHub's; the others take more
PAUSES_SECONDS: Final = (0.0, 1.0, 4.0)  # before each try
TRY_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.05
OF_GITLAB: Final = "/api/v4/"
GITLABS_WORDS: Final = {FAILURE: "failed", ERROR: "failed"}
TRIED_AGAIN: Final = (408, 425, 429)
SHA: Final = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")

log = logging.getLogger(__name__)


class _Nowhere(HTTPRedirectHandler):
    """A redirect would take the token to whatever host it names."""

    def redirect_request(self, *_: Any) -> None: ...


STRAIGHT: Final = build_opener(_Nowhere)


class _Refused(Exception):
    """The forge's answer is no; to ask again would not change it."""


@dataclass(frozen=True)
class Statuses:
    """`url` has {sha} in it, and perhaps {branch}; none, if nobody is to be told. `token` is a file. `page` is the
    address of the service for people."""

    url: str = ""
    token: Path | None = None
    page: str = ""

    def tell(
        self, speaker: Speaker, state: str, *, sha: str, branch: str, task: str, text: str, is_last_word: bool = False
    ) -> None:
        """`is_last_word`: there is no time for more than one short try.

        What stands in a workspace's HEAD is a stranger's text. As `..` it would be another call of the forge.
        """
        if not self.url or not sha:
            return
        if not SHA.fullmatch(sha):
            speaker.log(f"no commit status {state} is sent: {sha[:80]!r} is no commit")
            return
        pauses, seconds = (PAUSES_SECONDS[:1], 1.0) if is_last_word else (PAUSES_SECONDS, TRY_SECONDS)
        body = self._body(state, task, text)
        address = self.url.replace("{sha}", quote(sha, safe="")).replace("{branch}", quote(branch, safe=""))
        reason = ""
        for pause in pauses:
            time.sleep(pause)
            try:
                _in_time(lambda: _exchange(address, body, self._headers(), seconds), seconds)
                return
            except _Refused as error:
                reason = str(error)
                break
            except (OSError, ValueError, HTTPException) as error:
                reason = _shown(error)
        host = urlsplit(self.url).hostname
        speaker.log(f"the commit status {state} was not taken by {host}: {reason}")
        log.warning("the commit status of %s was not taken by %s: %s", sha, host, reason)

    def _body(self, state: str, task: str, text: str) -> bytes:
        members = {
            "state": GITLABS_WORDS.get(state, state) if OF_GITLAB in urlsplit(self.url).path else state,
            "context": CONTEXT,
            "description": text[:DESCRIPTION_LIMIT],
        }
        if self.page:
            members["target_url"] = f"{self.page}/ui/tasks/{task}"
        return json.dumps(members).encode()

    def _headers(self) -> Mapping[str, str]:
        """The token is read each time: a new one counts at once."""
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "sandbox"}
        token = self.token.read_text(encoding="utf-8").strip() if self.token else ""
        return headers | ({"Authorization": f"Bearer {token}"} if token else {})


NO_STATUSES: Final = Statuses()


def _shown(error: Exception) -> str:
    """What Python says of a header that cannot be sent has the token in it."""
    return str(error) if isinstance(error, OSError) else f"it cannot be sent ({type(error).__name__})"


def _exchange(address: str, body: bytes, headers: Mapping[str, str], seconds: float) -> None:
    try:
        with STRAIGHT.open(Request(address, body, dict(headers), method="POST"), timeout=seconds) as answer:
            answer.read(1000)
    except HTTPError as error:
        with error:
            said = f"{error.code} {error.reason}"
            if error.code < 500 and error.code not in TRIED_AGAIN:
                raise _Refused(said) from None
        raise OSError(said) from None


def _in_time(exchange: Callable[[], None], seconds: float) -> None:
    errors: list[Exception] = []

    def work() -> None:
        try:
            exchange()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="commit-status", daemon=True)
    until = time.monotonic() + seconds
    thread.start()
    while thread.is_alive():
        if time.monotonic() > until:
            raise TimeoutError(f"no answer within {seconds:g} s")
        thread.join(LOOK_SECONDS)
    if errors:
        raise errors[0]
