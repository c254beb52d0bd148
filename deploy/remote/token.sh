# The token with which a deploy proves a release, made once. As root: the service's user owns the file of tokens.
release=$ROOT/releases/$1
[ ! -s "$ROOT/shared/verify-token" ] || exit 0
settings=/etc/sandbox/next/$1.default
[ -e "$settings" ] || settings=/etc/default/sandbox
runuser -u sandbox -- bash -euc 'set -a; . "$2"
    [ -n "${SANDBOX_TOKENS:-}" ] || exit 0
    "$1" token remove deploy >/dev/null 2>&1 || true
    exec "$1" token add deploy --scope write' sandbox "$release/.venv/bin/sandbox" "$settings" |
    runuser -u deploy -- bash -c 'umask 077; cat >"$0"' "$ROOT/shared/.verify-token"
runuser -u deploy -- mv -T "$ROOT/shared/.verify-token" "$ROOT/shared/verify-token"
