"""gunicorn, with its own options: `python -m service.web`. On trial it starts gently from its first import on."""

import gc

from service import trial

trial.begin()
gc.disable()  # until conf/gunicorn.py has imported the application: little of it is garbage, and looking takes long

from gunicorn.app.wsgiapp import run  # noqa: E402

run(prog="gunicorn")
