# Users, groups and folders of a host. Twice is once. Runs without the lock, which lies in one of the folders.
# Arguments: the Debian packages that must be there. What their installation prints is shown at its end, for a client
# that is gone must not end it half-way; and what it starts must not hold the second lock.
[ "$PYTHON" = /usr/bin/python3 ] || [ -x "$PYTHON" ] || {
    echo "there is no $PYTHON here; \`python\` in the stage's file names the hosts' Python" >&2
    exit 1
}
missing=()
for package; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if ((${#missing[@]})); then
    said=$(mktemp)
    trap 'cat "$said" >&2 || true; rm -f "$said"' EXIT
    apt-get -q update 9>&- >"$said" 2>&1 </dev/null
    DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "${missing[@]}" \
        9>&- >>"$said" 2>&1 </dev/null
fi
group() { getent group "$1" >/dev/null || groupadd --system "$1"; }
user() { getent passwd "$1" >/dev/null || useradd --system --gid "$1" --home-dir "$2" --no-create-home --shell "$3" "$1"; }
member() { id -nG "$1" | grep -qw "$2" || usermod --append --groups "$2" "$1"; }
folder() { install -d -o "$1" -g "$2" -m "$3" "$4"; }
group sandbox
group deploy
group sandbox-control
user sandbox /var/lib/sandbox /usr/sbin/nologin
user deploy "$ROOT" /bin/bash
member sandbox sandbox-control
member deploy sandbox-control
for name in sandbox deploy; do
    runuser -u "$name" -- "$PYTHON" -I -c '' 2>/dev/null 9>&- || { echo "the user $name cannot start $PYTHON" >&2; exit 1; }
done
folder deploy deploy 755 "$ROOT"
# As deploy, who may have put links there: root would give away what they lead to.
runuser -u deploy -- bash --norc -euc '
    for folder in releases shared shared/wheels; do
        install -d -m 755 "$ROOT/$folder" && [ -O "$ROOT/$folder" ] ||
            { echo "$ROOT/$folder does not belong to the user deploy: look why, and mend that" >&2; exit 1; }
    done
    for file in lock step; do
        [ -f "$ROOT/shared/$file" ] && [ -O "$ROOT/shared/$file" ] ||
            install -T -m 600 /dev/null "$ROOT/shared/$file"
    done' 9>&-
folder sandbox sandbox-control 710 /var/lib/sandbox
folder sandbox adm 2750 /var/log/sandbox
folder root root 755 /etc/sandbox
# Debian's example site would be the default server beside ours. One that somebody has changed is left.
example=/etc/nginx/sites-available/default
if [ "$(readlink -f /etc/nginx/sites-enabled/default)" = "$example" ] &&
    dpkg-query -W -f '${Conffiles}\n' nginx-common 2>/dev/null | grep -qF "$example $(md5sum "$example" | cut -d' ' -f1)"; then
    rm /etc/nginx/sites-enabled/default
fi
