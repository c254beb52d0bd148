"""The project's code: the mirror, the clone, and the branch that bears the person's email."""

from service.workspaces import hands
from service.workspaces.record import DONE
from service.workspaces.steps.step import BuildStep
from service.workspaces.work import StepFailed, Work

CLONE_SECONDS = 600.0
CHECKOUT_SECONDS = 120.0


class FetchMirror(BuildStep):
    name = "mirror"

    def check(self, work: Work) -> bool:
        return bool(work.record.base_sha) and work.mirror.exists

    def apply(self, work: Work) -> None:
        work.mirror.fetch(work.told)
        work.record.base_sha = work.mirror.main_sha(work.told)

    def undo(self, work: Work) -> None:
        work.record.base_sha = None


class Clone(BuildStep):
    name = "clone"

    def check(self, work: Work) -> bool:
        return bool(work.facts.sha or work.facts.branch)

    def apply(self, work: Work) -> None:
        """A new one is not at its branch."""
        work.record.steps.pop(Branch.name, None)
        work.save()
        work.run(hands.CLONE, seconds=CLONE_SECONDS)


class Branch(BuildStep):
    """Ours by the commit that is in the record before it is pushed. What a person has pushed since is no longer ours
    to remove. Once the step was done, what is checked out is the person's.
    """

    name = "branch"

    def check(self, work: Work) -> bool:
        record = work.record
        if not (self._is_checked_out(work) and (record.taken_over or record.pushed_sha)):
            return False
        return bool(work.mirror.tip(work.told, record.branch))

    def _is_checked_out(self, work: Work) -> bool:
        was_done = work.record.steps.get(self.name) == DONE
        return work.facts.branch == work.record.branch or (was_done and bool(work.facts.sha or work.facts.branch))

    def apply(self, work: Work) -> None:
        record = work.record
        assert record.base_sha
        tip = work.mirror.tip(work.told, record.branch)
        if not tip:
            tip = self._push(work, record.base_sha)
        elif tip != record.pushed_sha and not record.was_pushed:
            self._take_over(work)
        if work.facts.branch != record.branch:
            if not work.mirror.has(work.told, tip):
                work.mirror.fetch(work.told)
            work.run(hands.CHECKOUT, record.branch, tip, seconds=CHECKOUT_SECONDS)

    def verify(self, work: Work) -> None:
        """git has said so."""

    def _push(self, work: Work, sha: str) -> str:
        work.record.pushed_sha, work.record.taken_over, work.record.was_pushed = sha, False, False
        work.save()
        work.mirror.push_new(work.told, work.record.branch, sha)
        if work.mirror.tip(work.told, work.record.branch) != sha:
            raise StepFailed(f"the branch {work.record.branch} was pushed, and is not at the origin")
        work.record.was_pushed = True
        work.save()
        return sha

    def _take_over(self, work: Work) -> None:
        record = work.record
        if not (work.take_over or record.taken_over):
            raise StepFailed(
                f"the branch {record.branch} is at the origin already, and this workspace has not made it. Remove it "
                "there, or use it as it is: resume the workspace with take_over."
            )
        record.pushed_sha, record.taken_over = None, True
        work.save()

    def undo(self, work: Work) -> None:
        record = work.record
        if record.taken_over or not record.pushed_sha:
            return
        tip = work.mirror.tip(work.told, record.branch)
        if tip == record.pushed_sha:
            work.mirror.remove(work.told, record.branch, tip)
            if work.mirror.tip(work.told, record.branch):
                raise StepFailed(f"the branch {record.branch} is still at the origin")
        elif tip:
            work.told.log(f"the branch {record.branch} stays: somebody has pushed to it")
        record.pushed_sha = None
