# The running service takes over the settings, circus.ini and code of now, and refuses nobody (`sandbox restart`); one
# that does not run is started. With `anyway`, one that cannot take over is stopped and started. Ends when it is ready.
# The environment of the command becomes that of the service: it is what the init script would give.
take_over() {
    env -i PATH="$PATH" HOME=/var/lib/sandbox LANG=C.UTF-8 runuser -u sandbox -- \
        bash -c 'cd /; set -a; . /etc/default/sandbox; exec "$0" restart' "$ROOT/current/.venv/bin/sandbox" \
        9>&- >&2 </dev/null
}
if service sandbox status >/dev/null; then
    ! take_over || exit 0
    [ "${1:-}" = anyway ] || exit 1
    service sandbox stop 9>&- >&2 </dev/null
fi
service sandbox start 9>&- >&2 </dev/null
