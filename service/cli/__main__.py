"""`python -m service.cli`: what circusd starts, or the command."""

import sys

from service.cli import processes

if begin := processes.PROCESSES.get(tuple(sys.argv[1:])):
    sys.exit(processes.main(begin))

from service.cli.main import main

sys.exit(main())
