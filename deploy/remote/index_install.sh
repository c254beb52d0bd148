# devpi-server in a virtualenv of its own, /srv/devpi/$1, from the wheels in a tar on standard input, and its data.
# Root's password of devpi is made here, and stays in /var/lib/devpi/root-password.
umask 022
target=/srv/devpi/$1
if [ -e "$target/.complete" ]; then
    cat >/dev/null
    echo "is there"
else
    rm -rf "$target"
    mkdir "$target" "$target/wheels"
    tar -x -C "$target/wheels"
    "$PYTHON" -m venv --without-pip "$target/.venv"
    PIP_CONFIG_FILE=/dev/null PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
        "$target/.venv/bin/python" "$(echo "$target"/wheels/pip-*.whl)/pip" install --quiet --no-index --no-deps \
        --no-cache-dir --require-hashes --find-links "$target/wheels" -r "$target/wheels/requirements.txt"
    rm -rf "$target/wheels"
    touch "$target/.complete"
    echo "written"
fi
ln -sfn "$1" /srv/devpi/.current
mv -Tf /srv/devpi/.current /srv/devpi/current
[ -e /var/lib/devpi/data/.nodeinfo ] || runuser -u devpi -- bash -euc '
    cd /
    umask 077
    rm -rf /var/lib/devpi/data
    head -c 24 /dev/urandom | base64 >/var/lib/devpi/root-password
    exec "$0" -I -c "
from devpi_server.init import init
words = [\"devpi-init\", \"--serverdir\", \"/var/lib/devpi/data\", \"--root-passwd\"]
raise SystemExit(init(argv=[*words, open(\"/var/lib/devpi/root-password\").read().strip()]))
" >&2' "$target/.venv/bin/python" 9>&-
