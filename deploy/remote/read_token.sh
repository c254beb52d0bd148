# The token that token.sh made, or nothing where the service has no tokens.
[ ! -e "$ROOT/shared/verify-token" ] || cat "$ROOT/shared/verify-token"
