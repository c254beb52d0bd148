"""What gunicorn imports."""

import os

from service import settings, wiring

app = wiring.app(settings.read(os.environ))
