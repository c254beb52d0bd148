"""How many clients a process may hold."""

import resource

import pytest

from service.web.server import capacity


@pytest.mark.parametrize(("files", "partitions", "clients"), [(1024, 1, 480), (65_536, 1, 32_736), (1024, 64, 448)])
def test_there_is_room_for_the_connections_that_listen(
    monkeypatch: pytest.MonkeyPatch, files: int, partitions: int, clients: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert capacity.clients(partitions) == clients
