"""What is said of the addresses at which clouds tell a host's secrets."""

import subprocess

import pytest

from steward import network
from steward.config import Config


def test_a_rule_of_ipv6_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*words: str) -> "subprocess.CompletedProcess[str]":
        fails = "-6" in words or "del" in words
        return subprocess.CompletedProcess(words, int(fails), "", "RTNETLINK answers: no\n" if fails else "")

    monkeypatch.setattr(network, "call", call)
    monkeypatch.setattr(network, "_networks", lambda: list(network.METADATA))
    assert network.forbid_metadata(Config()) == "reachable: ip -6 rule: RTNETLINK answers: no"
    monkeypatch.setattr(network, "_networks", lambda: [network.METADATA[0]])
    assert network.forbid_metadata(Config()) == "refused"
