# Runs a command in the environment of the service, with RELEASE for the folder of the release, and with the settings
# that it will have (place.py).
export RELEASE=$ROOT/releases/$1
settings=/etc/sandbox/next/$1.default
[ -r "$settings" ] || settings=/etc/default/sandbox
set -a
. "$settings"
set +a
export SANDBOX_RELEASE=$RELEASE PATH=$RELEASE/.venv/bin:$PATH
cd /
eval "$2"
