# Tells graphite-web of an event, as the service does. Arguments: what, a tag, the text.
set -a
. /etc/default/sandbox
set +a
cd /
exec "$ROOT/current/.venv/bin/python" -I -c '
import os, sys
from service.supervise.observer.graphite import Graphite
Graphite(os.environ["GRAPHITE_URL"]).event(sys.argv[1], ["sandbox", sys.argv[2]], sys.argv[3])
' "$@"
