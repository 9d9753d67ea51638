#!/bin/sh
# Starts Valkey; arguments that are options or a configuration file are the server's.
set -eu

case ${1:-} in
    -* | *.conf) set -- valkey-server "$@" ;;
esac
if [ "${1:-}" = valkey-server ] && [ "$(id -u)" = 0 ]; then
    chown valkey:valkey .
    exec setpriv --reuid=valkey --regid=valkey --clear-groups "$0" "$@"
fi
exec "$@"
