"""A cluster that has lost a node, and goes on without its partitions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from service.errors import StoreUnavailable
from tests.runner.test_cluster import PARTITIONS, SECONDS, Site
from tests.servers import RedisCluster, RedisServer, eventually
from tests.store.conftest import own_cluster  # noqa: F401 - a fixture
from tests.store.test_connection import _do_without_some_slots, is_at

LOST: Final = 1  # not the node of partition 0: without the record nobody begins


@pytest.fixture
def site(own_cluster: RedisCluster, tmp_path: Path) -> Iterator[Site]:  # noqa: F811
    _do_without_some_slots(own_cluster)
    site = Site(own_cluster, tmp_path)
    yield site
    site.crew.kill_all()
    site.store.close()


@pytest.fixture
def node(own_cluster: RedisCluster) -> RedisServer:  # noqa: F811
    """The one that gets lost."""
    return own_cluster.nodes[LOST]


@pytest.fixture
def there(node: RedisServer) -> list[int]:
    """The partitions that lie there."""
    return [partition for partition in range(PARTITIONS) if is_at(node, partition)]


@pytest.fixture
def elsewhere(there: list[int]) -> list[int]:
    return [partition for partition in range(PARTITIONS) if partition not in there]


def in_partition(site: Site, partition: int, type: str, **args: object) -> str:
    [task] = site.crew.new(type, args=args)
    task.uid = site.store.uid(task.uid[:59], partition)
    [uid] = site.crew.store_all([task])
    return uid


def is_finished(site: Site, *uids: str) -> bool:
    try:
        return all(task.finished for task in site.tasks(list(uids)))
    except StoreUnavailable:
        return False  # the node comes back


def test_who_has_run_a_task_of_it_goes_on_with_others_and_settles_it_later(
    site: Site,
    own_cluster: RedisCluster,  # noqa: F811
    node: RedisServer,
    there: list[int],
    elsewhere: list[int],
) -> None:
    site.start(threads=1)
    lost = in_partition(site, there[0], "nap", seconds=1.0)
    eventually(lambda: site.tasks([lost])[0].started_at, SECONDS)
    node.kill()
    others = [in_partition(site, partition, "echo") for partition in elsewhere]
    eventually(lambda: is_finished(site, *others), SECONDS)
    own_cluster.start_again(LOST)
    eventually(lambda: is_finished(site, lost), SECONDS)
    assert [(task.status, task.attempt) for task in site.tasks([lost])] == [("succeeded", 1)]


def test_a_task_elsewhere_is_cancelled_while_one_of_it_runs(
    site: Site, node: RedisServer, there: list[int], elsewhere: list[int]
) -> None:
    site.start(threads=2)
    both = [in_partition(site, partition, "sleep", seconds=600) for partition in (there[0], elsewhere[0])]
    eventually(lambda: all(task.started_at for task in site.tasks(both)), SECONDS)
    node.kill()
    site.call("DELETE", f"/tasks/{both[1]}")
    waits = in_partition(site, elsewhere[0], "echo")
    eventually(lambda: is_finished(site, waits), SECONDS)


def test_a_runner_that_starts_meanwhile_serves_the_others(site: Site, node: RedisServer, elsewhere: list[int]) -> None:
    site.start()
    first = in_partition(site, elsewhere[0], "echo")
    eventually(lambda: is_finished(site, first), SECONDS)
    site.crew.kill_all()
    node.kill()
    site.start()
    others = [in_partition(site, partition, "echo") for partition in elsewhere]
    eventually(lambda: is_finished(site, *others), SECONDS)
