"""The virtualenv: built at its final path, whole when its freeze.txt is there, and in use when the link leads to it."""

from service.workspaces import hands
from service.workspaces.steps.step import BuildStep
from service.workspaces.work import StepFailed, Work

VENV_SECONDS = 120.0
INSTALL_SECONDS = 900.0
SWITCH_SECONDS = 30.0


class Venv(BuildStep):
    name = "venv"

    def check(self, work: Work) -> bool:
        facts = work.facts
        return bool(facts.venv) and facts.venvs.get(facts.venv) == facts.requirements

    def apply(self, work: Work) -> None:
        """One that is whole already was built by somebody who was killed before the switch."""
        facts = work.facts
        whole = [number for number, made_for in facts.venvs.items() if made_for == facts.requirements]
        switch(work, max(whole) if whole else build(work, in_use(work)))


def build(work: Work, python: str) -> int:
    """Beside those that are there. One that was begun and not finished is begun anew."""
    number = max([0, *work.facts.venvs]) + 1
    work.record.pythons[str(number)] = python
    work.save()
    work.run(hands.VENV, number, python, seconds=VENV_SECONDS)
    work.run(hands.REQUIREMENTS, number, seconds=INSTALL_SECONDS)
    work.run(hands.FREEZE, number, seconds=VENV_SECONDS)
    if number not in work.look_again().venvs:
        raise StepFailed(f"the virtualenv {number} is not whole after it was built")
    return number


def in_use(work: Work) -> str:
    """The Python of the virtualenv that the link leads to: a rebuild that was cut off may have switched already."""
    return work.record.pythons.get(str(work.facts.venv)) or work.record.python or work.plan.pythons[0]


def switch(work: Work, number: int) -> None:
    work.run(hands.SWITCH, number, seconds=SWITCH_SECONDS)
    work.record.venv = number
    work.record.python = work.record.pythons.get(str(number), work.record.python)
    work.save()


def prune(work: Work) -> None:
    """Nothing but the one in use stays. The web process runs in it."""
    work.record.proven_venv, kept = 0, work.look_again().venv
    work.run(hands.PRUNE, kept, seconds=VENV_SECONDS)
    work.record.pythons = {number: python for number, python in work.record.pythons.items() if number == str(kept)}
    work.save()
