"""What `python3 -I /srv/sandbox-steward` runs: this file lies beside the packages there."""

import sys

from steward.command import main

sys.exit(main())
