# releases/$1 serves as it shall, with the files that were put in place for it: what they replaced is not wanted back.
rm -f "$ROOT/releases/$1/.bad"  # it may have failed before
[ -e "$ROOT/releases/$1/.verified" ] || runuser -u deploy -- touch "$ROOT/releases/$1/.verified"
rm -f /etc/sandbox/former.json
