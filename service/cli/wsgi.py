"""The application, for gunicorn."""

import os

from service import settings
from service.cli import wiring

app = wiring.app(settings.read(os.environ))
