# The token that token.sh made, or nothing where the service has no tokens.
[ ! -e "$ROOT/shared/verify-token" ] || runuser -u deploy -- cat "$ROOT/shared/verify-token"
