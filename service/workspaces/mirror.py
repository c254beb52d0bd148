"""The project's repository: a bare mirror of the service's own, and the only place that knows the credential.

Workspaces clone from the mirror. Branches are pushed from it by their commit, and looked up at the origin itself.
Workspaces can read the mirror, and everybody a command line: so the origin's password stands in neither.
"""

import fcntl
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from service.errors import SandboxError
from service.workspaces import whose
from service.workspaces.hands import Speaker

FETCH_SECONDS: Final = 600.0
LOOK_SECONDS: Final = 0.05
LAST_CHARACTERS: Final = 1000
EVERYTHING: Final = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
DEFAULT_BRANCH: Final = re.compile(r"^ref: (refs/heads/\S+)\tHEAD$", re.MULTILINE)
HELPER: Final = '!f() { printf "username=%s\\npassword=%s\\n" "$SANDBOX_GIT_NAME" "$SANDBOX_GIT_PASSWORD"; }; f'
INTO_THE_FILE: Final = 'exec git -c gc.autoDetach=false "$@" >&0 </dev/null'  # which it has as its input
FOREIGN: Final = "detected dubious ownership in repository"
OWN: Final = (  # git advises to trust it in one's own settings; those do not count here
    "git does nothing with such a one, for its hooks would run as this user; give it to this user, or have "
    "SANDBOX_WORKSPACE_GIT lead to it by ssh or https"
)
SSH: Final = "ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15"


class GitFailed(SandboxError):
    """git did not do what was asked, or the origin cannot be reached; the message has git's last lines."""


@dataclass(frozen=True)
class Origin:
    """`key` is the file of a deploy key, or nothing."""

    url: str
    key: Path | None = None

    @property
    def ssh(self) -> str:
        """The command. The hosts that it trusts may stand beside the key."""
        if self.key is None:
            return SSH
        words = [SSH, "-i", shlex.quote(str(self.key)), "-o IdentitiesOnly=yes"]
        known = self.key.with_name("known_hosts")
        if known.is_file():
            words.append(f"-o UserKnownHostsFile={shlex.quote(str(known))}")
        return " ".join(words)

    @property
    def without_secrets(self) -> str:
        if not self._has_secrets:
            return self.url
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    @property
    def secrets(self) -> dict[str, str]:
        """For git's environment: name and password, and the helper that tells them, to the origin's host alone."""
        if not self._has_secrets:
            return {}
        parts = urlsplit(self.url)
        name, _, password = parts.netloc.rpartition("@")[0].partition(":")
        host = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))
        return {
            "SANDBOX_GIT_NAME": unquote(name),
            "SANDBOX_GIT_PASSWORD": unquote(password),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"credential.{host}.helper",
            "GIT_CONFIG_VALUE_0": HELPER,
        }

    @property
    def _has_secrets(self) -> bool:
        parts = urlsplit(self.url) if "://" in self.url else None
        return parts is not None and parts.scheme in ("http", "https") and "@" in parts.netloc


class Mirror:
    def __init__(self, folder: Path, origin: Origin, *, read_by_others: bool = True) -> None:
        """Others have to read it where workspaces have users of their own. Elsewhere nobody has."""
        self._folder = folder
        self._origin = origin
        self._read_by_others = read_by_others

    @property
    def _turns(self) -> Path:
        """Marks what runs in a turn. The other commands may run side by side, of several builders."""
        return self._folder / "turn"

    @property
    def exists(self) -> bool:
        return (self._folder / "HEAD").is_file()

    def fetch(self, speaker: Speaker) -> None:
        """Makes it when it is not there: whole, or not at all."""
        with self._turn():
            self._fetch(speaker)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One at a time. What a killed one left is ended, and its locks are gone."""
        self._folder.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        with open(self._folder.with_name(".mirror.lock"), "ab", opener=_for_its_owner) as file:
            while True:
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(LOOK_SECONDS)
            for pid in whose.marked(self._turns):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for path in self._folder.glob("**/*.lock"):
                path.unlink(missing_ok=True)
            yield

    def _fetch(self, speaker: Speaker) -> None:
        if self.exists:
            self._keep_private(self._folder)
            self._forget_remote(speaker)
            self._fetch_into(self._folder, speaker)
            return
        beside = self._folder.with_name(f"{self._folder.name}.new")
        shutil.rmtree(beside, ignore_errors=True)
        self._in_turn(speaker, "init", "--quiet", "--bare", "--template=", "--shared=0644", "--", str(beside))
        self._keep_private(beside)
        self._fetch_into(beside, speaker)
        beside.rename(self._folder)

    def _keep_private(self, folder: Path) -> None:
        if not self._read_by_others:
            folder.chmod(0o700)

    def _fetch_into(self, folder: Path, speaker: Speaker) -> None:
        at = ("--git-dir", str(folder))
        url = self._origin.without_secrets
        how = ("--quiet", "--prune", "--no-write-fetch-head", "--no-auto-gc")
        self._in_turn(speaker, *at, "fetch", *how, "--", url, *EVERYTHING)
        with suppress(GitFailed):  # beside the next turn it would be ended, and all that it had packed stay
            self._in_turn(speaker, *at, "gc", "--quiet", "--auto")
        found = DEFAULT_BRANCH.search(self._in_turn(speaker, "ls-remote", "--symref", "--", url, "HEAD"))
        if found is None:
            raise GitFailed("git ls-remote: the origin's HEAD names no branch")
        self._in_turn(speaker, *at, "symbolic-ref", "HEAD", found[1])

    def _forget_remote(self, speaker: Speaker) -> None:
        """Mirrors that were made by `git clone` have the origin's password there."""
        if '[remote "origin"]' in (self._folder / "config").read_text(encoding="utf-8", errors="replace"):
            self._in_turn(speaker, "--git-dir", str(self._folder), "config", "--remove-section", "remote.origin")

    def main_sha(self, speaker: Speaker) -> str:
        return self._at_home(speaker, "rev-parse", "--verify", "--quiet", "HEAD^{commit}").strip()

    def has(self, speaker: Speaker, sha: str) -> bool:
        try:
            self._at_home(speaker, "cat-file", "-e", f"{sha}^{{commit}}")
        except GitFailed:
            return False
        return True

    def tip(self, speaker: Speaker, branch: str) -> str:
        """At the origin, now; an empty text if there is no such branch."""
        ref = f"refs/heads/{branch}"
        told = self._git(speaker, "ls-remote", "--", self._origin.without_secrets, ref)
        for line in told.splitlines():
            sha, _, name = line.partition("\t")
            if name.strip() == ref:
                return sha
        return ""

    def push_new(self, speaker: Speaker, branch: str, sha: str) -> None:
        """A branch that nobody else has made meanwhile."""
        self._push(speaker, branch, f"{sha}:refs/heads/{branch}", expected="")

    def remove(self, speaker: Speaker, branch: str, sha: str) -> None:
        """The branch, while it is where we pushed it."""
        if not self.exists:
            self.fetch(speaker)
        self._push(speaker, branch, f":refs/heads/{branch}", expected=sha)

    def _push(self, speaker: Speaker, branch: str, refspec: str, *, expected: str) -> None:
        lease = f"--force-with-lease=refs/heads/{branch}:{expected}"
        self._at_home(speaker, "push", "--quiet", "--no-verify", lease, "--", self._origin.without_secrets, refspec)

    def _at_home(self, speaker: Speaker, *words: str) -> str:
        return self._git(speaker, "--git-dir", str(self._folder), *words)

    def _in_turn(self, speaker: Speaker, *words: str) -> str:
        return self._git(speaker, *words, mark=self._turns)

    def _git(self, speaker: Speaker, *words: str, mark: Path | None = None) -> str:
        """What git answers is returned; what it complains of goes into the log, too."""
        environment = self._environment() | {whose.MARK: str(mark or self._folder)}
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as answer:
            name = words[0] if words[0] != "--git-dir" else words[2]
            try:
                done = speaker.run(
                    ["sh", "-c", INTO_THE_FILE, "git", *words],
                    env=environment, timeout=FETCH_SECONDS, cwd="/", stdin=answer,
                )  # fmt: skip
            except subprocess.TimeoutExpired as error:
                raise GitFailed(f"git {name} has not ended within {FETCH_SECONDS:g} seconds") from error
            if done.returncode:
                last = "\n".join(line for line in done.stdout.strip().splitlines() if line)[-LAST_CHARACTERS:]
                if FOREIGN in last:
                    last = f"{self._origin.without_secrets} is another user's: {OWN}"
                raise GitFailed(f"git {name}: {last or done.returncode}")
            answer.seek(0)
            return answer.read()

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": os.environ.get("HOME", "/"),
            "LANG": "C.UTF-8",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_SSH_COMMAND": self._origin.ssh,
            "GIT_OPTIONAL_LOCKS": "0",
            **self._origin.secrets,
        }


def _for_its_owner(path: str, flags: int) -> int:
    """Whoever can open a lock can hold it."""
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)  # one from before was everybody's
    return descriptor
