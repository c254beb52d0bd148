# releases/$1 is to be deployed, though it may have failed before: whether it is bad is found out anew.
rm -f "$ROOT/releases/$1/.bad"
