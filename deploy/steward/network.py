"""What no workspace may reach."""

import re
from pathlib import Path
from typing import Final

from steward.config import Config
from steward.programs import call

# Where clouds tell a host's secrets; at the last one Azure answers questions for names, too, which is not by TCP.
METADATA: Final = ("169.254.0.0/16", "fd00:ec2::254/128", "100.100.100.200/32", "168.63.129.16/32")
BY_TCP_ALONE: Final = METADATA[-1]
RULE: Final = "7300"  # the priority of our rules of routing
REFUSED: Final = "refused"
NO_IP: Final = "reachable: there is no `ip` (apt-get install iproute2)"


def forbid_metadata(config: Config) -> str:
    """The address at which clouds tell a host's secrets: routes that end, for the uids alone. Twice is once."""
    for network in _networks():
        words = _words(network)
        uids = ("uidrange", f"{config.first_uid}-{config.last_uid}")
        protocol = ("ipproto", "tcp") if network == BY_TCP_ALONE else ()
        rule = (*uids, *protocol, "to", network, "priority", RULE, "prohibit")
        try:
            while call(*words, "del", *rule).returncode == 0:
                pass
            done = call(*words, "add", *rule)
        except FileNotFoundError:
            return NO_IP
        if done.returncode != 0:
            return f"reachable: {' '.join(words)}: {done.stderr.strip()}"
    return REFUSED


def look(config: Config) -> str:
    """What becomes of it, without a change."""
    for network in _networks():
        words = _words(network)
        try:
            done = call(*words, "show")
        except FileNotFoundError:
            return NO_IP
        if done.returncode != 0:
            return f"reachable: {' '.join(words)}: {done.stderr.strip()}"
        to, uids = re.escape(re.sub("/(32|128)$", "", network)), f"{config.first_uid}-{config.last_uid}"
        if not re.search(rf"^{RULE}:.* to {to} .*uidrange {uids} ", done.stdout, re.MULTILINE):
            return "reachable until the steward is started"
    return REFUSED


def _networks() -> list[str]:
    """Without IPv6 nothing is reached by it, and there is no rule of it."""
    has_ipv6 = Path("/proc/net/if_inet6").exists()
    return [network for network in METADATA if has_ipv6 or ":" not in network]


def _words(network: str) -> tuple[str, ...]:
    return "ip", "-6" if ":" in network else "-4", "rule"
