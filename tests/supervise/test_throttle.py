from service.supervise.throttle import LONGEST_SECONDS, OLD_SECONDS, Throttle

YOUNG = 0.5


def pauses(throttle: Throttle, deaths: int) -> list[float]:
    found = []
    for death in range(deaths):
        throttle.died(YOUNG, now=float(death))
        found.append(throttle.pause)
    return found


def test_a_few_early_deaths_cost_nothing_and_then_the_pauses_double_up_to_a_limit() -> None:
    assert pauses(Throttle(allowed=3), 11) == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, LONGEST_SECONDS]


def test_it_holds_until_the_pause_is_over() -> None:
    throttle = Throttle(allowed=1)
    throttle.died(YOUNG, now=100.0)
    throttle.died(YOUNG, now=100.0)
    assert throttle.pause == 2
    assert throttle.holds(101.9)
    assert not throttle.holds(102.0)


def test_a_process_that_grew_old_ends_the_row() -> None:
    throttle = Throttle(allowed=1)
    pauses(throttle, 5)
    throttle.died(OLD_SECONDS, now=5.0)
    assert (throttle.crashes, throttle.pause, throttle.holds(5.0)) == (0, 0, False)


def test_who_calms_down_starts_at_once() -> None:
    throttle = Throttle(allowed=1)
    pauses(throttle, 5)
    throttle.grew_old()
    assert not throttle.holds(0.0)
    assert pauses(throttle, 1) == [1]


def test_a_thousand_crashes_are_no_large_number() -> None:
    assert pauses(Throttle(allowed=1), 2000)[-1] == LONGEST_SECONDS
