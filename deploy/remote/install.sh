# Makes releases/$1 from the wheels on this host; a tar with RELEASE.json and requirements.txt is on standard input.
# Arguments: release, pip's wheel below shared/wheels, then the checksums of the wheels.
umask 022
release=$ROOT/releases/$1 pip=$ROOT/shared/wheels/$2
shift 2
[ ! -e "$release/.complete" ] || { echo "$release is complete already" >&2; exit 1; }
rm -rf "$release"
mkdir "$release"
tar -x -C "$release"
"$PYTHON" -m venv --without-pip "$release/.venv"
python=$release/.venv/bin/python
links=()
for sha; do links+=(--find-links "$ROOT/shared/wheels/$sha"); done
export PIP_CONFIG_FILE=/dev/null PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
cd "$release"
"$python" "$pip/pip" install --quiet --no-index --no-deps --require-hashes --no-compile "${links[@]}" -r requirements.txt
"$python" "$pip/pip" check
"$python" -m compileall -q -j 0 "$release/.venv/lib"
