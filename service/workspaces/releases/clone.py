"""The clone of the project on this host, from which releases are tested and deployed.

An operator has made it, and set up the deploy tools in it; its working tree, with stages and tools, is left as it is. A
commit is fetched, tested in a fresh repository beside it, and deployed by its sha. Programs get an environment of a few
variables: nothing of the service's, and so no password of it. What a stage needs besides stands in files that it names.

A program ends with the attempt that has started it, by a KILL half a second after a TERM. That leaves the hosts whole,
as the death of a deploy's client does at any moment (docs/deploy.md); a deploy goes on with the next one.
"""

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.errors import SandboxError
from service.workspaces.hands import Speaker

GIT_SECONDS: Final = 300.0
TEST_SECONDS: Final = 3600.0
DEPLOY_SECONDS: Final = 3600.0
LOCK_WAIT_SECONDS: Final = 600  # the fab of an attempt that was killed may still have to notice
LAST_LINES: Final = 12
KEPT_VARIABLES: Final = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "SSH_AUTH_SOCK")
DONE: Final = re.compile(r"^- +done +([0-9]{8}T[0-9]{6}-[0-9a-f]{7})$", re.MULTILINE)


class ReleaseFailed(SandboxError):
    """A step of a release did not come to its end; the message has the last lines that were printed."""


@dataclass(frozen=True)
class OperatorsClone:
    """`scratch` is a folder of ours for the fresh repository; nothing else is in it."""

    folder: Path
    branch: str
    test: str
    scratch: Path

    def fetch(self, speaker: Speaker) -> str:
        """The commit that the branch is at now, at the origin."""
        ref = f"refs/remotes/origin/{self.branch}"
        self._git(speaker, "fetch", "--quiet", "origin", f"+refs/heads/{self.branch}:{ref}")
        return self._git(speaker, "rev-parse", "--verify", f"{ref}^{{commit}}").strip()

    def prove(self, speaker: Speaker, sha: str) -> None:
        """Runs the project's tests on this commit."""
        self._clear()
        try:
            self.scratch.mkdir(parents=True, mode=0o700)
            self._git(speaker, "init", "--quiet", "--template=", str(self.scratch))
            self._git(
                speaker, "-C", str(self.scratch), "fetch", "--quiet", str(self.folder), f"+{self._ref}:{self._ref}"
            )
            self._git(speaker, "-C", str(self.scratch), "checkout", "--quiet", "--detach", sha)
            self._run(speaker, shlex.split(self.test), at=self.scratch, seconds=TEST_SECONDS, name="the tests")
        finally:
            self._clear()

    def deploy(self, speaker: Speaker, stage: str, *what: str) -> str:
        """Returns the release that is on all hosts of the stage now, and proved there."""
        fab = self.folder / "deploy" / ".venv" / "bin" / "fab"
        if not fab.exists():
            raise ReleaseFailed(f"{fab} is missing: call `make deploy-tools` in {self.folder}")
        words = [str(fab), "-r", "deploy", stage, "deploy", "--lock-wait", str(LOCK_WAIT_SECONDS), *what]
        said = self._run(speaker, words, at=self.folder, seconds=DEPLOY_SECONDS, name=f"the deploy to {stage}")
        if not (found := DONE.findall(said)):
            raise ReleaseFailed(
                f"the deploy to {stage} did not say which release it was: {fab.parent} is of another one"
            )
        return str(found[-1])

    def built(self, sha: str, since: str) -> str | None:
        """The newest release of this commit that was built here since then, by a deploy that was broken off."""
        found = (file.stem for file in (self.folder / "deploy" / ".build" / "releases").glob(f"*-{sha[:7]}.json"))
        return max((name for name in found if name >= since), default=None)

    def _clear(self) -> None:
        """Also of folders that tests have made read-only: what stayed would be in the way of every later release."""
        if self.scratch.exists():
            subprocess.run(["chmod", "-R", "u+rwX", "--", str(self.scratch)], stderr=subprocess.DEVNULL, check=False)
            shutil.rmtree(self.scratch, ignore_errors=True)

    @property
    def _ref(self) -> str:
        return f"refs/remotes/origin/{self.branch}"

    def _git(self, speaker: Speaker, *words: str) -> str:
        named = next(word for word in words if word in ("fetch", "rev-parse", "init", "checkout"))
        return self._run(speaker, ["git", *words], at=self.folder, seconds=GIT_SECONDS, name=f"git {named}")

    def _run(self, speaker: Speaker, words: list[str], *, at: Path, seconds: float, name: str) -> str:
        kept = {variable: os.environ[variable] for variable in KEPT_VARIABLES if variable in os.environ}
        environment = kept | {"GIT_TERMINAL_PROMPT": "0", "PYTHONUNBUFFERED": "1"}
        try:
            done = speaker.run(words, cwd=at, env=environment, timeout=seconds)
        except OSError as error:
            raise ReleaseFailed(f"{name} cannot be started: {error}") from error
        if done.returncode:
            last = "\n".join(line for line in done.stdout.strip().splitlines()[-LAST_LINES:] if line.strip())
            raise ReleaseFailed(f"{name} ended with {done.returncode}: {last}")
        return str(done.stdout)
