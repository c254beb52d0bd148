"""`sandbox dashboards`."""

import os

import click

from service.cli.parsing import group
from service.errors import SettingsError

WHERE = "URL is where graphite-web is; without it, GRAPHITE_URL. A password belongs there: everybody can see arguments."


@group()
def dashboards() -> None: ...


@dashboards.command(help=f"Save them there, for the metrics that begin with STATSD_PREFIX. {WHERE}")
@click.argument("url", required=False)
def load(url: str | None) -> None:
    from service import settings
    from service.supervise.observer import dashboards
    from service.supervise.observer.graphite import Graphite
    from service.supervise.start import environment

    folder = environment.conf_folder() / "conf" / "graphite" / "dashboards"
    read = settings.read(os.environ)
    url = url or read.graphite_url
    if not url:
        raise SettingsError("GRAPHITE_URL is not set; it, or the argument URL, says where graphite-web is.")
    for address in dashboards.load(Graphite(url), read.statsd_prefix, folder):
        print(address)
