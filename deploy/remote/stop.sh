# Takes a first release away again: nothing was there before it.
service sandbox stop 9>&- >&2 </dev/null
rm -f "$ROOT/current"
