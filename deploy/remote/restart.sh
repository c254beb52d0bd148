# Stops the service and starts what `current` names, with the settings and the circusd of now; returns when it is ready.
service sandbox restart 9>&- >&2 </dev/null
