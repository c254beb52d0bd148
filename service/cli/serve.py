"""gunicorn, with its own options: `python -m service.web`. On trial it starts gently from its first import on."""

import os
import time

from service.supervise.reload import gentle

if os.environ.get("SANDBOX_TRIAL"):
    soon = time.monotonic() + 1
    gentle.begin(lambda: time.monotonic() > soon)

from service.supervise.reload import candidate

candidate.begin()

from gunicorn.app.wsgiapp import run  # noqa: E402

run(prog="gunicorn")
