"""Whose the listener is that the launcher passes visitors on to."""

import os
import socket
from pathlib import Path

import pytest

from service.workspaces import launch
from tests.servers import free_port

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
PORT = 8107


def line(address: str, uid: int, port: int = PORT, state: str = launch.LISTENS) -> str:
    local = f"{launch.as_in_proc(address)}:{port:04X}"
    return f"   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  {uid}        0 7 1 0 100 0\n"


def table(*lines: str) -> str:
    return HEAD + "".join(lines)


@pytest.mark.parametrize(
    ("lines", "whose"),
    [
        ([], set()),
        ([line("127.0.0.1", 70_001)], {70_001}),
        ([line("0.0.0.0", 70_001)], {70_001}),
        ([line("::", 70_001)], {70_001}),
        ([line("::ffff:127.0.0.1", 70_001)], {70_001}),
        ([line("::ffff:0.0.0.0", 70_001)], {70_001}),
        ([line("127.0.0.2", 70_001), line("::1", 70_001)], set()),  # a connection to 127.0.0.1 is not theirs
        ([line("127.0.0.1", 70_001, port=8108)], set()),
        ([line("127.0.0.1", 70_001, state="01")], set()),
        ([line("::", 70_002), line("127.0.0.1", 70_001)], {70_001}),  # the nearer address has it
        ([line("::", 70_002), line("0.0.0.0", 70_001)], {70_001}),
    ],
)
def test_a_listener_is_whose_the_kernel_says(lines: list[str], whose: set[int]) -> None:
    assert launch.owners(PORT, table(*lines)) == whose


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"])
def test_ones_own_listener_is_found(address: str) -> None:
    port = free_port()
    assert not launch.is_own(port)
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as listener:
        if ":" in address:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((address, port))
        assert not launch.is_own(port)
        listener.listen()
        assert launch.is_own(port)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes others")
def test_a_neighbours_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    os.seteuid(70_001)
    try:
        listener = socket.create_server(("127.0.0.1", port))
    finally:
        os.seteuid(0)
    with listener:
        assert launch.owners(port, Path("/proc/net/tcp").read_text()) == {70_001}
        assert not launch.is_own(port)
        monkeypatch.setattr(os, "getuid", lambda: 70_001)
        assert launch.is_own(port)
