# releases/$1 is bad, for the reason on standard input. It stays as evidence; nobody goes back to it.
rm -f "/etc/sandbox/next/$1".*
[ ! -d "$ROOT/releases/$1" ] || runuser -u deploy -- sh -c 'cat >"$1"' sh "$ROOT/releases/$1/.bad"
