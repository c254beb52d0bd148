# The token with which a deploy proves a release, made anew where the service's file of tokens does not have it. As root:
# the service's user owns that file. Arguments: release; `running` for the file that the running service has.
release=$ROOT/releases/$1 token=$ROOT/shared/verify-token
settings=/etc/sandbox/next/$1.default
[ -e "$settings" ] || settings=/etc/default/sandbox
hash=$(runuser -u deploy -- sh -euc '[ ! -s "$0" ] || tr -d "\n" <"$0" | sha256sum | cut -d " " -f 1' "$token")
made=$(runuser -u sandbox -- bash -euc 'set -a; . "$2"
    [ "$4" != running ] || SANDBOX_TOKENS=$(
        tr "\0" "\n" <"/proc/$(cat /run/sandbox/sandbox.pid)/environ" | sed -n "s/^SANDBOX_TOKENS=//p")
    [ -n "${SANDBOX_TOKENS:-}" ] || exit 0
    [ -z "$3" ] || ! grep -Eqs "^[^#]*[[:space:]]write[[:space:]]+$3" "$SANDBOX_TOKENS" || exit 0
    "$1" token remove deploy >/dev/null 2>&1 || true
    exec "$1" token add deploy --scope write' \
    sandbox "$release/.venv/bin/sandbox" "$settings" "$hash" "${2:-}" </dev/null)
[ -n "$made" ] || exit 0
printf '%s\n' "$made" | runuser -u deploy -- bash -c 'umask 077; cat >"$0"' "$ROOT/shared/.verify-token"
runuser -u deploy -- mv -T "$ROOT/shared/.verify-token" "$token"
