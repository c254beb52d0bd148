"""In which order a lane asks: the shares, and that nothing starves."""

from collections import Counter
from itertools import islice, pairwise
from typing import Any

from service.runner.order import Order, Turn
from service.tasks.document import HIGH, LOW, NORMAL


def turns(order: Order, count: int) -> list[Turn]:
    return list(islice(iter(order.next, None), count))


def longest_run(names: list[Any]) -> int:
    longest = run = 1
    for one, other in pairwise(names):
        run = run + 1 if one == other else 1
        longest = max(longest, run)
    return longest


def test_without_weights_the_order_is_strict() -> None:
    assert {turn.queues for turn in turns(Order(("a", "b", "c")), 20)} == {("a", "b", "c")}


def test_each_queue_leads_as_often_as_its_weight_says_and_evenly_spread() -> None:
    made = turns(Order(("critical", "default", "bulk"), {"critical": 5, "default": 2, "bulk": 1}), 800)
    leads = [turn.queues[0] for turn in made]
    assert Counter(leads) == {"critical": 500, "default": 200, "bulk": 100}
    assert longest_run(leads) <= 3
    for start in range(0, 800, 8):
        assert Counter(leads[start : start + 8]) == {"critical": 5, "default": 2, "bulk": 1}


def test_the_others_follow_in_the_order_of_the_setting() -> None:
    made = turns(Order(("a", "b", "c"), {"a": 1, "b": 1, "c": 1}), 3)
    assert sorted(turn.queues for turn in made) == [("a", "b", "c"), ("b", "a", "c"), ("c", "a", "b")]


def test_each_priority_leads_its_share_of_ten_and_all_are_asked() -> None:
    made = turns(Order(("a",)), 100)
    assert Counter(turn.priorities[0] for turn in made) == {HIGH: 70, NORMAL: 20, LOW: 10}
    assert {turn.priorities for turn in made} == {(HIGH, NORMAL, LOW), (NORMAL, HIGH, LOW), (LOW, HIGH, NORMAL)}


def test_the_shares_of_priorities_and_weights_do_not_lock_together() -> None:
    """Ten queues of one weight: each must see every priority lead."""
    queues = tuple("abcdefghij")
    made = turns(Order(queues, dict.fromkeys(queues, 1)), 1000)
    seen = Counter((turn.queues[0], turn.priorities[0]) for turn in made)
    assert all(seen[queue, priority] > 0 for queue in queues for priority in (HIGH, NORMAL, LOW))
