# From here on releases/$1 may become current, also after a power cut.
sync -f "$ROOT/releases/$1"
touch "$ROOT/releases/$1/.complete"
sync -f "$ROOT/releases/$1"
