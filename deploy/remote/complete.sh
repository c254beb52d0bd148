# From here on releases/$1 may become current.
touch "$ROOT/releases/$1/.complete"
