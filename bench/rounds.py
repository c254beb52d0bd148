"""How often something is measured, and in which order: every candidate once a round."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from bench.processes import complain

ROUNDS: Final = 5
QUICK_ROUNDS: Final = 2
QUICK_PART: Final = 10

Sample = TypeVar("Sample")


@dataclass(frozen=True)
class Plan:
    rounds: int
    quick: bool

    def size(self, count: int) -> int:
        return count // QUICK_PART if self.quick else count

    def seconds(self, seconds: float) -> float:
        return seconds / 2 if self.quick else seconds


def interleaved(
    plan: Plan, candidates: Mapping[str, Callable[[], Sample]], *, fewer: tuple[str, ...] = ()
) -> dict[str, list[Sample]]:
    """Samples of each candidate; those in `fewer` take part in two rounds only. The first one changes each round."""
    samples: dict[str, list[Sample]] = {name: [] for name in candidates}
    names = list(candidates)
    for number in range(plan.rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            if name not in fewer or number < 2:
                samples[name].append(candidates[name]())
                complain(f"  round {number + 1}/{plan.rounds}  {name}: {samples[name][-1]}")
    return samples
