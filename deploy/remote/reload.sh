# The running service takes the release that `current` names, through its own gate; one that does not run is started.
# Prints circusctl's answer as JSON. As a member of the control group, deploy may ask; root is needed for the start.
# What the start prints is shown at its end, for a client that is gone must not end it half-way.
if service sandbox status >/dev/null; then
    home=$(. /etc/default/sandbox && echo "$SANDBOX_HOME")
    runuser -u deploy -- "$ROOT/current/.venv/bin/circusctl" \
        --endpoint "ipc://$home/run/control.sock" --timeout 10 --json reload
else
    said=$(mktemp)
    trap 'cat "$said" >&2 || true; rm -f "$said"' EXIT
    service sandbox start 9>&- >"$said" 2>&1 </dev/null
    echo '{"status": "ok", "started": true}'
fi
