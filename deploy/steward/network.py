"""What no workspace may reach."""

from typing import Final

from steward.config import Config
from steward.programs import call

METADATA: Final = ("169.254.0.0/16", "fd00:ec2::254/128")  # where clouds tell a host's secrets
RULE: Final = "7300"  # the priority of our rules of routing


def forbid_metadata(config: Config) -> str:
    """The address at which clouds tell a host's secrets: routes that end, for the uids alone. Twice is once."""
    for network in METADATA:
        words = ("ip", "-6" if ":" in network else "-4", "rule")
        rule = ("uidrange", f"{config.first_uid}-{config.last_uid}", "to", network, "priority", RULE, "prohibit")
        try:
            while call(*words, "del", *rule).returncode == 0:
                pass
            done = call(*words, "add", *rule)
        except FileNotFoundError:
            return "reachable: there is no `ip` (apt-get install iproute2)"
        if done.returncode != 0 and "-4" in words:
            return f"reachable: ip rule: {done.stderr.strip()}"
    return "refused"
