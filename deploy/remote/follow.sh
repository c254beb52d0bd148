# The last $1 lines of each log of the service, and what comes, while the client is heard. A log may be renewed.
# Read as its user, which may have laid links in their places.
[ -e /etc/default/sandbox ] || { echo "$ROOT is not set up: fab STAGE setup" >&2; exit 1; }
cd "$(. /etc/default/sandbox && echo "$SANDBOX_LOGS")"
for log in circus.log web.log runner.log; do
    setpriv --reuid sandbox --regid sandbox --init-groups tail --quiet -n "$1" -F "$log" 2>/dev/null > >(exec sed -u "s/^/$log: /") &
done
while IFS= read -r -t 15 _; do :; done
kill $(jobs -p)
