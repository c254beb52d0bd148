# Runs before each script that changes something. Arguments: the user that the script runs as, and its command.
# Descriptor 9 is the second lock; the script inherits it. Whatever is to outlive the script must close it (9>&-).
exec 9>>"$ROOT/shared/step"
flock -w 110 9 || { echo "an earlier step is still running on this host" >&2; exit 75; }
if [ "$(head -n 1 "$ROOT/shared/lock")" != "$TOKEN" ] || flock -n -s "$ROOT/shared/lock" true; then
    echo "the lock was lost: nothing more is changed here" >&2
    exit 75
fi
user=$1
shift
[ "$user" != root ] || exec "$@"
exec runuser -u "$user" -- "$@"
