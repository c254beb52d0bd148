"""docs/observability.md names every metric, and no other."""

import re
from pathlib import Path

from service.observe.metrics import StatsDMetrics
from tests.observe.metrics.everything import tell_everything
from tests.observe.metrics.test_metrics import Lines

PAGE = Path(__file__).parents[3] / "docs" / "observability.md"
KINDS = {"c": "counter", "ms": "timer", "g": "gauge"}


def documented() -> dict[re.Pattern[str], str]:
    rows = re.findall(r"^\| (`[a-z].*?`) \| (counter|timer|gauge) \|", PAGE.read_text(), re.MULTILINE)
    found = {}
    for names, kind in rows:
        first, *others = re.findall(r"`(.+?)`", names)
        for name in (first, *[first.rpartition(".")[0] + other for other in others]):
            found[re.compile(re.sub(r"<\w+>", r"[\\w-]+", name.replace(".", r"\.")))] = kind
    return found


def told() -> dict[str, str]:
    lines = Lines()
    for number in range(10):
        tell_everything(StatsDMetrics(lines), number)
    sent = [line.split(":")[:2] for call in lines.sent for line in call]
    return {name.removeprefix("x."): KINDS[value.partition("|")[2]] for name, value in sent}


def test_every_metric_is_in_the_table_with_its_kind() -> None:
    rows = documented()
    for name, kind in told().items():
        assert [known for pattern, known in rows.items() if pattern.fullmatch(name)] == [kind], name


def test_every_row_of_the_table_is_sent() -> None:
    names = list(told())
    for pattern in documented():
        assert any(map(pattern.fullmatch, names)), pattern.pattern
