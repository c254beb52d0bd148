# Runs before each script that changes something. Arguments: the user that the script runs as, and its command.
# Descriptor 9 is the second lock; the script inherits it. Whatever is to outlive the script must close it (9>&-).
# Both files are deploy's, in a folder of deploy's, who may have put links there: root only reads, and nobody else's.
is_deploys() { [ -f "$1" ] && [ "$(stat -Lc %U "$1")" = deploy ]; }
refuse() { echo "$ROOT/shared/$1 is no file of deploy's: look why, then fab STAGE setup" >&2; exit 75; }
is_deploys "$ROOT/shared/step" && exec 9<"$ROOT/shared/step" && is_deploys /dev/fd/9 || refuse step
flock -w 110 9 || { echo "an earlier step is still running on this host" >&2; exit 75; }
is_deploys "$ROOT/shared/lock" && exec 8<"$ROOT/shared/lock" && is_deploys /dev/fd/8 || refuse lock
if [ "$(head -n 1 <&8)" != "$TOKEN" ] || flock -n -s 8; then
    echo "the lock was lost: nothing more is changed here" >&2
    exit 75
fi
exec 8<&-
user=$1
shift
[ "$user" != root ] || exec "$@"
exec runuser -u "$user" -- "$@"
