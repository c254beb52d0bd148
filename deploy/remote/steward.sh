# The steward runs, with what was put there, and starts at boot. Argument: whether its files have changed.
if [ -d /run/systemd/system ]; then
    systemctl --quiet enable sandbox-steward
else
    [ -n "$(find /etc/rc2.d -name 'S*sandbox-steward')" ] || update-rc.d sandbox-steward defaults >/dev/null
fi
if [ "$1" = changed ] || ! service sandbox-steward status >/dev/null 2>&1; then
    service sandbox-steward restart </dev/null >/dev/null 9>&-
fi
for _ in $(seq 100); do
    [ ! -S /run/sandbox-steward/socket ] || exit 0
    sleep 0.1
done
echo "the steward does not start; see journalctl -u sandbox-steward, or /var/log/sandbox-steward.log" >&2
exit 1
