# Stable names in releases/$1, which do not tell Python's version: `package`, the code with what nginx serves of it.
cd "$ROOT/releases/$1"
package=$(echo .venv/lib/python3.*/site-packages/service)
[ -d "$package" ] || { echo "the release has no package named service" >&2; exit 1; }
ln -sfn "$package" package
