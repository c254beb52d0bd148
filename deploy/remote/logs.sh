# The last $1 lines of each log of the service.
cd "$(. /etc/default/sandbox && echo "$SANDBOX_LOGS")"
for log in circus.log web.log runner.log; do
    [ ! -e "$log" ] || tail -n "$1" "$log" | sed "s/^/$log: /"
done
