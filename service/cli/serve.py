"""gunicorn, with its own options: `python -m service.cli.serve`. On trial, a start that takes long says where it is."""

import sys

from service.supervise.reload import candidate

candidate.begin()

from service.supervise import private_names  # noqa: E402

try:
    private_names.check(private_names.GUNICORN)
except private_names.MissingName as error:
    sys.exit(f"sandbox: {error}")

from gunicorn.app.wsgiapp import run  # noqa: E402

from service.cli import task_modules  # noqa: E402

task_modules.look_also_here()  # gunicorn would put its working folder at the beginning of the path
run(prog="gunicorn")
