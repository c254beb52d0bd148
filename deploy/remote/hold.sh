# Holds the lock of this host while it hears from its client. Arguments: token, who and for what as JSON, seconds to wait,
# seconds of silence.
# The first line that it prints is `held`, or `busy` and what the lock file says of its holder.
# A client that ends says `done`; of one that does not, deploys.jsonl has a line by us.
[ -d "$ROOT/shared" ] || { echo "$ROOT is not set up: fab STAGE setup" >&2; exit 1; }
# As deploy: the folder is deploy's, who may have put there what he likes, and root would follow a link.
((EUID)) || exec runuser -u deploy -- bash --norc -euo pipefail -c "$BASH_EXECUTION_STRING" "$0" "$@"
# Who may open a lock may hold it: nobody else may (earlier tools let all read them).
exec 8<>"$ROOT/shared/lock" && chmod 600 "$ROOT/shared/lock" "$ROOT/shared/step" ||
    { echo "it is no file of deploy's: look why, then fab STAGE setup" >&2; exit 1; }
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
who="${2%\}}, \"since\": \"$(date -u +%FT%T+00:00)\"}"
printf '%s\n%s\n' "$1" "$who" >"$ROOT/shared/lock"
echo held
began=$SECONDS said=
while IFS= read -r -t "$4" said && [ "$said" != done ]; do :; done
[ "$said" != done ] || exit 0
echo "${who%\}}, \"from\": null, \"to\": null, \"outcome\": \"given up: the client was killed, or its link was cut\"," \
    "\"seconds\": $((SECONDS - began))}" >>"$ROOT/shared/deploys.jsonl"
