"""What git and pip are asked on this machine: commits unpacked into folders, and the output of programs."""

import io
import subprocess
import tarfile
from pathlib import Path

from rollout.errors import DeployError


def output(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join(f"    {line}" for line in (done.stderr + done.stdout).rstrip().splitlines()[-30:])
        raise DeployError(f"{' '.join(words[:4])} … ended with {done.returncode}\n{last}")
    return done.stdout


def extract(folder: Path, sha: str, target: Path) -> None:
    """A folder of a git repository, as a commit has it."""
    words = ["git", "-C", str(folder), "archive", sha]
    archive = subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(target, filter="data")


def commit_of(folder: Path) -> str:
    """What is checked out there; refused while something is not committed, for it would not be deployed."""
    if changed := output("git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no", ".").rstrip():
        raise DeployError(f"{folder} has changes that are not committed, and would not be deployed:\n{changed}")
    return output("git", "-C", str(folder), "rev-parse", "HEAD").strip()
