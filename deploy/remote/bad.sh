# releases/$1 is bad, for the reason on standard input. It stays as evidence; nobody goes back to it.
[ ! -d "$ROOT/releases/$1" ] || cat >"$ROOT/releases/$1/.bad"
