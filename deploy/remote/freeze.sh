# With a reason on standard input no deploy begins until `unlock`; with nothing it may again.
reason=$(cat)
if [ -n "$reason" ]; then
    printf '%s\n' "$reason" >"$ROOT/shared/.frozen"
    mv -T "$ROOT/shared/.frozen" "$ROOT/shared/frozen"
else
    rm -f "$ROOT/shared/frozen"
fi
