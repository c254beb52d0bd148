# `current` names releases/$1, at once: whoever looks finds the old one or the new one.
[ -e "$ROOT/releases/$1/.complete" ] || { echo "$1 is not complete" >&2; exit 1; }
ln -sfn "releases/$1" "$ROOT/.current.new"
mv -Tf "$ROOT/.current.new" "$ROOT/current"
