# The token with which a deploy proves a release, made once. As root: the service's user owns the file of tokens.
release=$ROOT/releases/$1
[ ! -s "$ROOT/shared/verify-token" ] || exit 0
runuser -u sandbox -- bash -euc 'set -a; . /etc/default/sandbox
    [ -n "${SANDBOX_TOKENS:-}" ] || exit 0
    "$1" token remove deploy >/dev/null 2>&1 || true
    exec "$1" token add deploy --scope write' sandbox "$release/.venv/bin/sandbox" |
    install -o deploy -g deploy -m 600 /dev/stdin "$ROOT/shared/.verify-token"
mv -T "$ROOT/shared/.verify-token" "$ROOT/shared/verify-token"
