"""Releases that do not work, each in its own way."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.deploy.host import TestHost
from tests.deploy.project import Project

MARKS = "/var/lib/sandbox/run/throttled"  # what /health/ready complains of

CRASH_SECONDS = 4  # after a runner was ready, each time


class Fault(NamedTuple):
    file: str
    old: str
    new: str
    told: str  # what the operator reads, as a pattern


DOES_NOT_IMPORT = Fault("service/web/app.py", "\nfrom ", '\nraise ImportError("on purpose")\nfrom ', "on purpose")
IS_NEVER_READY = Fault(
    "service/web/api/health.py",
    "        found: dict[str, Any] = {}\n",
    '        raise answers.unavailable("never", failing={"part": "never ready"})\n',
    "never ready",
)
HANGS = Fault(
    "service/cli/serve.py",
    "candidate.begin()\n",
    "candidate.begin()\n__import__('time').sleep(1000)\n",
    r"sleep\(1000\)",  # a reload tells the place that the release has come to
)
CRASHES_LATER = Fault(
    "service/supervise/reload/candidate.py",
    "    has_started()\n    if (held := folder()) is None:\n        return\n    (held",
    "    has_started()\n"
    "    if 'runner' in sys.argv:\n"
    f"        __import__('threading').Timer({CRASH_SECONDS}, os._exit, [3]).start()\n"
    "    if (held := folder()) is None:\n        return\n    (held",
    "have died since|no runner is at work|no process of this release is a runner",
)

FAULTS = {
    "does not import": DOES_NOT_IMPORT,
    "is never ready": IS_NEVER_READY,
    "hangs": HANGS,
    "crashes after it was ready": CRASHES_LATER,
}

REFUSES_WHERE_TOLD = """\
        if __import__("os").path.exists("/etc/sandbox/refuse"):
            raise answers.unavailable("refused on purpose", failing={"part": "refused on purpose"})
        found: dict[str, Any] = {}
"""  # instead of the last line


def commit(project: Project, fault: Fault) -> str:
    text = (project.folder / fault.file).read_text()
    assert fault.old in text
    (project.folder / fault.file).write_text(text.replace(fault.old, fault.new, 1))
    return project.commit("a release that does not work")


def undo(project: Project) -> None:
    project.git("revert", "--no-edit", "HEAD")


def leave_mark(host: TestHost, name: str) -> None:
    """One that stays, for the folder is root's."""
    host.sh(f"mkdir -p {MARKS}; chown root {MARKS}; touch {MARKS}/{name}")


@contextmanager
def unproved(host: TestHost) -> Iterator[None]:
    """Whatever is verified fails."""
    leave_mark(host, "sandbox")
    yield
    host.sh(f"rm {MARKS}/sandbox; chown sandbox {MARKS}")
