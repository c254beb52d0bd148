"""What an operator looks at: the releases on each host, what serves, and the logs. Changes nothing."""

from rollout import logs, phases, report
from rollout.beside import side_by_side
from rollout.errors import DeployError
from rollout.releases import OnHost, Release, from_facts
from rollout.roll import Roll


def releases(roll: Roll) -> None:
    with roll.connected():
        for host, found in side_by_side(roll.hosts, phases.look).items():
            if not found.releases:
                report.line(str(host), "none", "nothing was deployed")
            for one in found.releases:
                report.line(str(host), one.state, _release(one, found))


def _release(one: Release, found: OnHost) -> str:
    places = {"current": found.current, "serving": found.serving}
    marks = [name for name, place in places.items() if place == one.id]
    reason = f": {one.bad.splitlines()[0]}" if one.bad else ""
    return "  ".join([one.id, one.version, *marks]) + reason


def status(roll: Roll) -> None:
    """One line a host; an error if one does not serve what is current there."""
    with roll.connected():
        asked = side_by_side(roll.hosts, lambda host: (phases.facts(host), host.ask("status.sh").strip()))
    wrong = []
    for host, (facts, ready) in asked.items():
        found = from_facts(facts)
        frozen = f", frozen: {facts['frozen']}" if facts["frozen"] else ""
        report.line(
            str(host),
            ready.partition(":")[0],
            f"current {found.current or 'none'}, serving {found.serving or 'none'}{frozen}",
        )
        if ready != "ready":
            wrong.append(f"{host}: {ready}")
        elif found.current != found.serving:
            wrong.append(f"{host} serves another release than its current one")
    if wrong:
        raise DeployError("\n".join(wrong))


def log_lines(roll: Roll, lines: int, *, follow: bool) -> None:
    with roll.connected():
        (logs.follow if follow else logs.last)(roll.hosts, lines)
