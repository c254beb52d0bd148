"""The task types of the chain: what was pushed is tested and deployed to the first stage; what a person wants goes on
to the second one, by the name of the very release.

One of them works at a time on a host. Where a runner stopped or was killed, the next attempt goes on with the release
that was built; where that serves already, it is only verified. So a stage may have the builders' own host, whose deploy
reloads the builder, as its only one. If there are more, each try reloads the builder anew: there are TRIES of them.
"""

import fcntl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from service import Context, Reject, Retry, task
from service.errors import Interrupted, SandboxError, Stopping
from service.tasks.declare import TaskType, marked_type
from service.tasks.transitions import RELEASE_DEPLOY
from service.workspaces.releases.clone import OperatorsClone
from service.workspaces.releases.ledger import DONE, FAILED, RUNNING, Begun, Ledger

PROMOTE: Final = "release.promote"
DEPLOY: Final = RELEASE_DEPLOY
QUEUE: Final = "releases"
BUSY_SECONDS: Final = 30.0
LONGEST_SECONDS: Final = 9000.0
ATTEMPTS: Final = 2 * int(LONGEST_SECONDS / BUSY_SECONDS)  # one may wait for two others' tests and deploys
TRIES: Final = 5

Result = dict[str, Any]


@dataclass(frozen=True)
class Chain:
    clone: OperatorsClone
    ledger: Ledger
    first: str  # the stages
    second: str
    lock: Path


def types(chain: Chain) -> list[TaskType]:
    @task(PROMOTE, queue=QUEUE, max_attempts=ATTEMPTS, timeout=LONGEST_SECONDS)
    def promote(context: Context, sha: str | None = None) -> Result:
        """Tests what was pushed, and deploys it to the first stage. A person may then bring it to the second one."""
        with _alone(chain):
            tip = chain.clone.fetch(context)
            if sha not in (None, tip):
                raise Reject(
                    f"origin says that {chain.clone.branch} is at {tip}, and not at {sha}. A later push has a task of "
                    "its own; an earlier one says that origin lags: call `sandbox task create release.promote` later"
                )
            context.progress(0.1, "tests")
            chain.clone.prove(context, tip)
            context.progress(0.5, f"deploy to {chain.first}")
            begun = _begun(chain, context, chain.first)
            built = chain.clone.built(tip, begun.at) if begun.tries > 1 else None
            what = ("--release", built) if built else ("--ref", tip)
            release = chain.clone.deploy(context, chain.first, *what)
            chain.ledger.prove(release, tip, context.uid)
            return {"release": release, "sha": tip, "stage": chain.first}

    @task(DEPLOY, queue=QUEUE, max_attempts=ATTEMPTS, timeout=LONGEST_SECONDS)
    def deploy(context: Context, release: str) -> Result:
        """Brings a release to the second stage. Only POST /releases/<id>/promote and its button create such a task."""
        with _alone(chain):
            wish = chain.ledger.follow(context.uid, RUNNING)
            if wish is None or wish.release != release:
                raise Reject("nobody asks for this any more: bring a release to the next stage by its button")
            with _followed(chain, context):
                context.progress(0.1, f"deploy to {chain.second}")
                _begun(chain, context, chain.second)
                brought = chain.clone.deploy(context, chain.second, "--release", release)
                if brought != release:
                    raise Reject(f"the deploy says that it has brought {brought}, and not {release}")
            return {"release": release, "stage": chain.second}

    return [found for each in (promote, deploy) if (found := marked_type(each))]


def _begun(chain: Chain, context: Context, stage: str) -> Begun:
    begun = chain.ledger.begin(context.uid)
    if begun.tries > TRIES:
        raise Reject(
            f"the deploy to {stage} was broken off {TRIES} times, as the runner that did it ended each time: "
            f"do builders work on one of the hosts of {stage}? Deploy by hand from elsewhere"
        )
    return begun


@contextmanager
def _alone(chain: Chain) -> Iterator[None]:
    """What goes wrong fails the task at once: to try again helps only where another one is at work."""
    chain.lock.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    with open(chain.lock, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Retry("another release is under way", after=BUSY_SECONDS) from None
        try:
            yield
        except (Reject, Retry):
            raise
        except (SandboxError, subprocess.SubprocessError, OSError) as error:
            raise Reject(str(error)) from error


@contextmanager
def _followed(chain: Chain, context: Context) -> Iterator[None]:
    """How the wish ends. If a runner stops, the next attempt goes on with it."""
    try:
        yield
    except Stopping:
        raise
    except (Exception, Interrupted):
        chain.ledger.follow(context.uid, FAILED)
        raise
    chain.ledger.follow(context.uid, DONE)
