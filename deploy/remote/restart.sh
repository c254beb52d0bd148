# The running service takes over the settings, circus.ini and code of now, and refuses nobody (`sandbox restart`); one
# that does not run is started. Ends when it is ready; with 3 where the service has refused, and goes on as it was. With
# `anyway`, one that does not take over is stopped and started; what that prints is shown at the end, for a client that
# is gone must not end it between the two.
# The environment of the command becomes that of the service: it is what the init script would give.
take_over() {
    env -i PATH="$PATH" HOME=/var/lib/sandbox LANG=C.UTF-8 runuser -u sandbox -- \
        bash -c 'cd /; set -a; . /etc/default/sandbox; exec "$0" restart' "$ROOT/current/.venv/bin/sandbox" \
        9>&- >&2 </dev/null
}
if service sandbox status >/dev/null; then
    code=0
    take_over || code=$?
    [ "$code" -ne 0 ] || exit 0
    if [ "${1:-}" != anyway ]; then
        [ "$code" -ne 7 ] && service sandbox status >/dev/null || exit 1 # 7: it has not come back to what it was
        exit 3
    fi
fi
said=$(mktemp)
trap 'cat "$said" >&2 || true; rm -f "$said"' EXIT
[ -z "${code:-}" ] || service sandbox stop 9>&- >>"$said" 2>&1 </dev/null
service sandbox start 9>&- >>"$said" 2>&1 </dev/null
