# Runs a command in the environment of the service, with RELEASE for the folder of the release, and with the settings
# that it will have (place.py).
export RELEASE=$ROOT/releases/$1
for folder in /etc/sandbox /etc/sandbox/next; do
    [ ! -e "$folder" ] || [ -x "$folder" ] || { echo "$(id -un) may not enter $folder" >&2; exit 1; }
done
settings=/etc/sandbox/next/$1.default
[ -r "$settings" ] || settings=/etc/default/sandbox
set -a
. "$settings"
set +a
export SANDBOX_RELEASE=$RELEASE PATH=$RELEASE/.venv/bin:$PATH
cd /
eval "$2"
