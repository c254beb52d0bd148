# Holds the lock of this host while it hears from its client. Arguments: token, who as JSON, seconds to wait, silence.
# The first line that it prints is `held`, or `busy` and what the lock file says of its holder.
[ -d "$ROOT/shared" ] || { echo "$ROOT is not set up: fab STAGE setup" >&2; exit 1; }
exec 8<>"$ROOT/shared/lock"
until=$((SECONDS + $3))
until flock -n 8; do
    if ((SECONDS >= until)); then
        echo busy
        cat "$ROOT/shared/lock"
        exit 75
    fi
    heard=0
    IFS= read -r -t 0.2 _ || heard=$?
    [ "$heard" -ne 1 ] || exit 1 # the client is gone; above 128 it was only silent
done
printf '%s\n%s\n' "$1" "$2" >"$ROOT/shared/lock"
echo held
while IFS= read -r -t "$4" _; do :; done
