"""Releases that do not work, each in its own way."""

from typing import NamedTuple

from tests.deploy.project import Project


class Fault(NamedTuple):
    file: str
    old: str
    new: str
    told: str  # what the operator reads


DOES_NOT_IMPORT = Fault("service/web/app.py", "\nimport ", '\nraise ImportError("on purpose")\nimport ', "on purpose")
IS_NEVER_READY = Fault(
    "service/web/api/health.py",
    "        notices = _notices(throttled)\n",
    '        raise answers.unavailable(StoreUnavailable("never"), failing={"part": "never ready"})\n',
    "never ready",
)
HANGS = Fault(
    "service/cli/serve.py", "\nimport ", "\nimport time\n\ntime.sleep(1000)\nimport ", "time.sleep(1000)"
)  # a reload tells the place that it has come to
CRASHES_LATER = Fault(
    "service/runner/process.py",
    "\nimport ",
    "\nimport os as _os\nimport threading as _threading\n\n_timer = _threading.Timer(4, _os._exit, [3])\n"
    "_timer.daemon = True\n_timer.start()\nimport ",
    "have died since",
)

FAULTS = {
    "does not import": DOES_NOT_IMPORT,
    "is never ready": IS_NEVER_READY,
    "hangs": HANGS,
    "crashes after it was ready": CRASHES_LATER,
}


def commit(project: Project, fault: Fault) -> str:
    text = (project.folder / fault.file).read_text()
    assert fault.old in text
    (project.folder / fault.file).write_text(text.replace(fault.old, fault.new, 1))
    return project.commit("a release that does not work")


def undo(project: Project) -> None:
    project.git("revert", "--no-edit", "HEAD")
