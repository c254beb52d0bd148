"""gunicorn, with its own options: `python -m service.web`. On trial it starts gently from its first import on."""

from service import trial

trial.begin()

from gunicorn.app.wsgiapp import run  # noqa: E402

run(prog="gunicorn")
