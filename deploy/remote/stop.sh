# Takes a first release away again: nothing was there before it.
# What the stop prints is shown at its end, for a client that is gone must not end it half-way.
said=$(mktemp)
trap 'cat "$said" >&2 || true; rm -f "$said"' EXIT
service sandbox stop 9>&- >"$said" 2>&1 </dev/null
rm -f "$ROOT/current"
