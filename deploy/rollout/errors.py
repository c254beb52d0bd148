"""What ends a command, with its exit code."""


class DeployError(Exception):
    """The hosts, the release or somebody else's lock say no: exit code 1."""

    code = 1


class UsageError(DeployError):
    """The command or a file of settings cannot be meant like this: exit code 2."""

    code = 2


class TakenBack(DeployError):
    """Something failed after the switch; the hosts went back."""


class HostFailed(DeployError):
    """A host did not do what it was told; the message ends with the last lines that it printed."""

    def __init__(self, message: str, ended: int | None = None) -> None:
        super().__init__(message)
        self.ended = ended  # the script's exit code, if it came to its end


class GoesOn(HostFailed):
    """The service has refused a restart, and goes on as it was."""


class StillWaits(HostFailed):
    """The task of `verify` is queued: whether a runner would execute it, nobody knows."""


class Failures(DeployError):
    """What went wrong on several hosts at once."""
