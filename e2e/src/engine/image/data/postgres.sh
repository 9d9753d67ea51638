#!/bin/sh
# Starts PostgreSQL, and makes its database first when the data folder is empty. Reads the variables that the public
# image reads: POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB, POSTGRES_INITDB_ARGS, POSTGRES_HOST_AUTH_METHOD, PGDATA;
# the first three also from files, by NAME_FILE.
set -eu

case ${1:-postgres} in
    -*) set -- postgres "$@" ;;
esac

if [ "${1:-postgres}" != postgres ]; then
    exec "$@"
fi

if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    chown -R postgres:postgres "$PGDATA"
    chmod 700 "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi

# The value of NAME, or what the file that NAME_FILE names holds, or a default.
setting() {
    eval "value=\${$1:-} file=\${$1_FILE:-}"
    if [ -n "$value" ] && [ -n "$file" ]; then
        echo "both $1 and $1_FILE are set" >&2
        exit 1
    fi
    [ -z "$file" ] || value=$(cat "$file")
    echo "${value:-$2}"
}

create() {
    user=$(setting POSTGRES_USER postgres)
    password=$(setting POSTGRES_PASSWORD '')
    database=$(setting POSTGRES_DB "$user")
    method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    if [ -z "$password" ] && [ "$method" != trust ]; then
        echo 'the data folder is empty and POSTGRES_PASSWORD is not set' >&2
        exit 1
    fi
    password_file=$(mktemp)
    printf '%s\n' "$password" >"$password_file"
    # shellcheck disable=SC2086 # they are words
    initdb --pgdata "$PGDATA" --username "$user" ${password:+--pwfile "$password_file"} ${POSTGRES_INITDB_ARGS:-}
    rm "$password_file"
    echo "host all all all $method" >>"$PGDATA/pg_hba.conf"

    # Nobody else may connect before everything is there: on a socket of its own, and no address.
    socket=$(mktemp -d)
    pg_ctl --pgdata "$PGDATA" --wait start --options "-c listen_addresses='' -c unix_socket_directories='$socket'"
    run() {
        psql --no-psqlrc --set ON_ERROR_STOP=1 --host "$socket" --username "$user" "$@"
    }
    if [ "$database" != postgres ]; then
        echo 'CREATE DATABASE :"database";' | run --dbname postgres --set database="$database"
    fi
    for script in /docker-entrypoint-initdb.d/*; do
        case $script in
            *.sh) PGHOST=$socket PGUSER=$user PGDATABASE=$database sh "$script" ;;
            *.sql) run --dbname "$database" --file "$script" ;;
        esac
    done
    pg_ctl --pgdata "$PGDATA" --wait --mode fast stop
    rmdir "$socket"
}

[ -s "$PGDATA/PG_VERSION" ] || create
[ $# -gt 0 ] || set -- postgres
exec "$@"
