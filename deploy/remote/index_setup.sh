# The user and the folders of the package index. Twice is once.
if ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
    said=$(mktemp) # shown at the end: a client that is gone must not end the installation half-way
    trap 'cat "$said" >&2 || true; rm -f "$said"' EXIT
    apt-get -q update 9>&- >"$said" 2>&1 </dev/null
    DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends python3-venv \
        9>&- >>"$said" 2>&1 </dev/null
fi
getent group devpi >/dev/null || groupadd --system devpi
getent passwd devpi >/dev/null ||
    useradd --system --gid devpi --home-dir /var/lib/devpi --no-create-home --shell /usr/sbin/nologin devpi
install -d -o devpi -g devpi -m 750 /var/lib/devpi
install -d -o devpi -g adm -m 2750 /var/log/devpi
install -d -o root -g root -m 755 /srv/devpi
