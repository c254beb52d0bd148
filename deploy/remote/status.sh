# `ready`, or what is missing.
if ! service sandbox status >/dev/null; then
    echo stopped
    exit
fi
runuser -u sandbox -- bash -c 'set -a; . /etc/default/sandbox; exec "$0" ready' "$ROOT/current/.venv/bin/sandbox" 2>&1 &&
    echo ready || true
