"""gunicorn's configuration for the tests of many clients: impatient, and with few descriptors."""

import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 128))

from tests.web.impatient import *  # noqa: E402, F403
