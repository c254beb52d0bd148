"""`sandbox dashboards`."""

import argparse
import os

from service.cli.parsing import Commands, add, group
from service.errors import SettingsError


def add_commands(commands: Commands) -> None:
    loads = add(
        group(commands, "dashboards", "the dashboards for graphite-web"),
        "load",
        dashboards_load,
        "save them there, for the metrics that begin with STATSD_PREFIX",
    )
    where = "where graphite-web is; without it, GRAPHITE_URL. A password belongs there: everybody can see arguments"
    loads.add_argument("url", metavar="URL", nargs="?", help=where)


def dashboards_load(arguments: argparse.Namespace) -> int:
    from service import settings
    from service.supervise.observer import dashboards
    from service.supervise.observer.graphite import Graphite
    from service.supervise.start import environment

    folder = environment.conf_folder() / "conf" / "graphite" / "dashboards"
    read = settings.read(os.environ)
    url = arguments.url or read.graphite_url
    if not url:
        raise SettingsError("GRAPHITE_URL is not set; it, or the argument URL, says where graphite-web is.")
    for address in dashboards.load(Graphite(url), read.statsd_prefix, folder):
        print(address)
    return 0
