#!/usr/bin/env bash
# A PostgreSQL server for tests of `catalog sync`, on loopback and a port of its own.
#
#   up     start it unless it runs; prints postgresql://driftline@127.0.0.1:PORT/items, and only
#          that, on stdout. It offers TLS, signed by itself: DIR/server.crt
#   kill   kill it at once, as a crash would; `up` starts it again on the same port, data kept
#   wipe   stop it and remove its data
#   status whether it runs
#
# Option: --dir DIR (one server per folder; also DRIFTLINE_POSTGRES_DIR).
# The programs are Debian's `postgresql`; scripts/setup.sh test installs them. PostgreSQL refuses
# to run as root: as root it is run as DRIFTLINE_POSTGRES_USER, `postgres` unless that is set.
set -euo pipefail
. "$(dirname "$0")/server.sh"

START_SECONDS=60 # usually 1

command=${1:-}
[ $# -eq 0 ] || shift
dir=${DRIFTLINE_POSTGRES_DIR:-$DRIFTLINE_CACHE/postgres}
while [ $# -gt 0 ]; do
  case $1 in
    --dir) dir=${2:?--dir needs a folder}; shift 2 ;;
    *) usage ;;
  esac
done
dir=$(absolute "$dir")

# The newest PostgreSQL there is: Debian keeps its programs off the PATH.
programs() {
  local bin
  for bin in $(compgen -G '/usr/lib/postgresql/*/bin' | sort -rV) \
    "$(dirname "$(command -v pg_ctl 2>/dev/null || echo /none)")"; do
    if [ -x "$bin/initdb" ] && [ -x "$bin/pg_ctl" ]; then
      echo "$bin"
      return
    fi
  done
  return 1
}

as_owner() {
  if [ "$(id -u)" != 0 ]; then "$@"; else
    # Somewhere that the other user may be.
    (cd / && setpriv --reuid="$owner" --regid="$owner" --init-groups -- "$@")
  fi
}

running() { [ -d "$dir/data" ] && as_owner "$bin/pg_ctl" -D "$dir/data" status >/dev/null 2>&1; }

start() {
  as_owner "$bin/pg_ctl" -D "$dir/data" -l "$dir/server.log" -w -t "$START_SECONDS" \
    -o "-p $1 -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off \
      -c ssl=on -c ssl_cert_file='$dir/server.crt' -c ssl_key_file='$dir/server.key'" \
    start >/dev/null 2>&1 </dev/null
}

up() {
  local port
  if [ ! -f "$dir/kind" ]; then
    mkdir -p "$dir"
    echo postgres >"$dir/kind"
  fi
  [ "$(id -u)" != 0 ] || chown "$owner" "$dir"
  # initdb fails half-way only where the disk is full; what it left is removed.
  if [ ! -f "$dir/data/PG_VERSION" ]; then
    as_owner "$bin/initdb" -D "$dir/data" -U driftline -A trust -E UTF8 --locale=C --no-sync \
      >"$dir/initdb.log" 2>&1 || { tail -n 3 "$dir/initdb.log" >&2; die "initdb failed in $dir."; }
  fi
  certificate as_owner
  running || start_on_a_port PostgreSQL
  port=$(recorded port)
  psql -qX -h 127.0.0.1 -p "$port" -U driftline -d postgres -tAc \
    "SELECT 1 FROM pg_database WHERE datname = 'items'" | grep -q 1 ||
    psql -qX -h 127.0.0.1 -p "$port" -U driftline -d postgres -c 'CREATE DATABASE items' >&2
  echo "postgresql://driftline@127.0.0.1:$port/items"
}

owner=${DRIFTLINE_POSTGRES_USER:-postgres}
bin=$(programs) || bin=
{ [ -n "$bin" ] && have psql && have openssl; } ||
  die "PostgreSQL or openssl is missing. Get them with: apt-get install -y postgresql openssl"

case $command in
  up) up ;;
  kill) ! running || as_owner "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null ;;
  wipe)
    # Only a folder that this script made: `--dir ~` must not cost a home.
    [ -f "$dir/kind" ] || exit 0
    ! running || as_owner "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null
    forget data server.crt server.key server.log initdb.log openssl.log
    ;;
  status)
    if running; then echo "running at 127.0.0.1:$(recorded port)"; else echo "stopped, $dir"; exit 1; fi
    ;;
  # For setup.sh.
  can-start) ;;
  *) usage ;;
esac
