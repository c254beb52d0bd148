# The user and the folders of the package index. Twice is once.
if ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
    apt-get -q update
    DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends python3-venv
fi
getent group devpi >/dev/null || groupadd --system devpi
getent passwd devpi >/dev/null ||
    useradd --system --gid devpi --home-dir /var/lib/devpi --no-create-home --shell /usr/sbin/nologin devpi
install -d -o devpi -g devpi -m 750 /var/lib/devpi
install -d -o devpi -g adm -m 2750 /var/log/devpi
install -d -o root -g root -m 755 /srv/devpi
