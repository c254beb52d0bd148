# Runs before each script that changes a host without the lock of a deploy: setup makes that one, and the index has none.
# Arguments: the command. Descriptor 9 is the second lock, which waits for what a killed client left running; the script
# inherits it. Whatever is to outlive the script must close it (9>&-). Only root may open the file: nobody else holds it.
file=/run/sandbox-setup.lock
(umask 077 && : >>"$file")
exec 9<"$file"
flock -w 110 9 || { echo "an earlier setup, or a change of the index, is still running on this host" >&2; exit 75; }
exec "$@"
