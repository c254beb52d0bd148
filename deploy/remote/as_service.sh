# Runs a command in the environment of the service, with RELEASE for the folder of the release.
export RELEASE=$ROOT/releases/$1
set -a
. /etc/default/sandbox
set +a
export SANDBOX_RELEASE=$RELEASE PATH=$RELEASE/.venv/bin:$PATH
cd /
eval "$2"
