"""A project in a bare repository, an operator's clone of it, and in the place of fab a program that notes what it is
told, fails if a file says so, and names a release as fab does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service.testing import Outcome, run
from service.workspaces.releases import chain
from service.workspaces.releases.chain import Chain
from service.workspaces.releases.clone import OperatorsClone
from service.workspaces.releases.ledger import Ledger
from tests.workspaces.yard import git

FAB = """#!/usr/bin/env python3
import json, os, sys, time
from pathlib import Path
ground, words = Path(__file__).resolve().parents[4], sys.argv[1:]
with open(ground / "fab.log", "a") as file:
    print(json.dumps({"words": words, "folder": os.getcwd(), "variables": sorted(os.environ)}), file=file)
while (ground / "hang").exists():
    time.sleep(0.05)
if (ground / "fail").exists():
    print("host  reload  FAILED: the gate says no")
    sys.exit(1)
count = len((ground / "fab.log").read_text().splitlines())
made = f"20260101T0000{count:02}-{words[-1][:7]}"
print(f"-                        build       0.1 s  {made}, version 1")
print(f"-                        done               {words[-1] if '--release' in words else made}")
"""
PROJECT = {
    "check.sh": 'set -e\ngit log -1 --format=%H >"$HOME/tested"\nenv >"$HOME/variables"\ncat text\n[ ! -e broken ]\n',
    "text": "hello\n",
}


class Ground:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work, self.origin, self.place = folder / "work", folder / "origin.git", folder / "clone"
        self.work.mkdir()
        for name, text in PROJECT.items():
            (self.work / name).write_text(text)
        git("init", "--quiet", "--initial-branch=main", folder=self.work)
        git("add", "--all", folder=self.work)
        git("commit", "--quiet", "--message=The project", folder=self.work)
        for bare, to in ((["--bare"], self.origin), ([], self.place)):
            git("clone", "--quiet", *bare, str(self.work if bare else self.origin), str(to), folder=folder)
        git("remote", "add", "origin", str(self.origin), folder=self.work)
        fab = self.place / "deploy" / ".venv" / "bin" / "fab"
        fab.parent.mkdir(parents=True)
        fab.write_text(FAB)
        fab.chmod(0o755)
        self.ledger = Ledger(folder / "releases")
        self.chain = Chain(
            clone=OperatorsClone(self.place, "main", "sh check.sh", scratch=folder / "releases" / "checkout"),
            ledger=self.ledger, first="staging", second="production", lock=folder / "releases" / ".lock",
        )  # fmt: skip

    def push(self, name: str = "text", text: str = "newer\n") -> str:
        (self.work / name).write_text(text)
        git("add", "--all", folder=self.work)
        git("commit", "--quiet", f"--message=Change {name}", folder=self.work)
        git("push", "--quiet", "origin", "main", folder=self.work)
        return git("rev-parse", "HEAD", folder=self.work)

    def handler(self, name: str) -> Callable[..., Any]:
        [found] = [each.handler for each in chain.types(self.chain) if each.name == name]
        return found

    def do(self, name: str, /, *, uid: str | None = None, **args: Any) -> Outcome:
        return run(self.handler(name), args, uid=uid)

    def promoted(self) -> str:
        """The release that a push has become."""
        outcome = self.do(chain.PROMOTE, sha=self.push(text=f"{len(self.told())}\n"))
        assert outcome.status == "succeeded", outcome
        return str(outcome.result["release"])

    def built(self, release: str) -> None:
        """fab has noted that it has built this one."""
        folder = self.place / "deploy" / ".build" / "releases"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{release}.json").touch()

    def told(self) -> list[dict[str, Any]]:
        """How the program in the place of fab was called."""
        log = self.folder / "fab.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
