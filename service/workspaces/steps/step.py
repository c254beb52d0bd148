"""A part of a workspace that is there or not: how to see it, make it and take it away.

What is there decides, not what the record says. Each may be cut off at any moment, and is then begun again.
"""

from service.workspaces.work import StepFailed, Work


class BuildStep:
    name: str

    def check(self, work: Work) -> bool:
        """Is it there already?"""
        raise NotImplementedError

    def apply(self, work: Work) -> None:
        raise NotImplementedError

    def verify(self, work: Work) -> None:
        if not self.check(work):
            raise StepFailed(f"{self.name}: it is not there after it was made")

    def undo(self, work: Work) -> None:
        """Also of what was never made, or made by half."""
