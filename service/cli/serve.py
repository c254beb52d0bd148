"""gunicorn, with its own options: `python -m service.cli.serve`. On trial, a start that takes long says where it is."""

from service.supervise.reload import candidate

candidate.begin()

from gunicorn.app.wsgiapp import run  # noqa: E402

run(prog="gunicorn")
