# The last $1 lines of each log of the service.
[ -e /etc/default/sandbox ] || { echo "$ROOT is not set up: fab STAGE setup" >&2; exit 1; }
cd "$(. /etc/default/sandbox && echo "$SANDBOX_LOGS")"
for log in circus.log web.log runner.log; do
    [ ! -e "$log" ] || tail -n "$1" "$log" | sed "s/^/$log: /"
done
