#!/usr/bin/env bash
# A Redis server for tests and benches of the hot tier, on loopback and a port of its own.
#
#   up     start it unless it runs; prints 127.0.0.1:PORT, and only that, on stdout
#   down   stop it
#   pause  let it hang: it keeps its connections and answers nothing; `up` lets it go on
#   kill   kill it at once, as a crash would; `up` starts it again on the same port, empty
#   wipe   stop it and remove its folder
#   status whether it runs
#
# Options: --dir DIR (one server per folder; also DRIFTLINE_REDIS_DIR), --tls (TLS only, signed by
# itself: DIR/server.crt), --password PASSWORD; both count when it is started first.
# The program is Debian's `redis-server`; scripts/setup.sh test installs it.
set -euo pipefail
. "$(dirname "$0")/server.sh"

START_SECONDS=30 # usually 1

command=${1:-}
[ $# -eq 0 ] || shift
dir=${DRIFTLINE_REDIS_DIR:-$DRIFTLINE_CACHE/redis}
tls=
password=
while [ $# -gt 0 ]; do
  case $1 in
    --dir) dir=${2:?--dir needs a folder}; shift 2 ;;
    --tls) tls=yes; shift ;;
    --password) password=${2:?--password needs a password}; shift 2 ;;
    *) usage ;;
  esac
done
dir=$(absolute "$dir")

server=$(command -v redis-server || echo /usr/bin/redis-server)
[ -x "$server" ] || die "Redis is missing. Get it with: apt-get install -y redis-server"

# The process that this folder's file names, where it still is a redis-server.
pid() {
  local p
  p=$(cat "$dir/pid" 2>/dev/null) || return 1
  # Its name, not its state: one that is paused runs.
  [ -n "$p" ] && [ "$(cat "/proc/$p/comm" 2>/dev/null || ps -o comm= -p "$p" 2>/dev/null)" = redis-server ] &&
    echo "$p"
}

gone() {
  local i
  for ((i = 0; i < START_SECONDS * 20; i++)); do
    kill -0 "$1" 2>/dev/null || return 0
    sleep 0.05
  done
  return 1
}

settings() {
  cat <<CONF
bind 127.0.0.1
dir "$dir"
pidfile "$dir/pid"
logfile "$dir/server.log"
daemonize yes
save ""
appendonly no
CONF
  [ -z "$password" ] || echo "requirepass \"$password\""
  [ -z "$tls" ] || cat <<CONF
port 0
tls-cert-file "$dir/server.crt"
tls-key-file "$dir/server.key"
tls-auth-clients no
CONF
}

start() {
  local i key=--port
  [ ! -f "$dir/tls" ] || key=--tls-port
  rm -f "$dir/pid"
  "$server" "$dir/redis.conf" "$key" "$1" >/dev/null 2>&1 </dev/null || return 1
  for ((i = 0; i < START_SECONDS * 20; i++)); do
    if pid >/dev/null && listens "$1"; then return 0; fi
    sleep 0.05
  done
  return 1
}

up() {
  local p
  mkdir -p "$dir"
  if [ ! -f "$dir/kind" ]; then
    echo redis >"$dir/kind"
    [ -z "$tls" ] || touch "$dir/tls"
    settings >"$dir/redis.conf"
    chmod 600 "$dir/redis.conf"
  fi
  [ ! -f "$dir/tls" ] || certificate
  if p=$(pid); then kill -CONT "$p"; else start_on_a_port Redis; fi
  echo "127.0.0.1:$(recorded port)"
}

stop() {
  local p
  p=$(pid) || return 0
  # One that is paused hears nothing but this.
  kill -KILL "$p"
  gone "$p" || die "Redis, process $p, does not end."
  rm -f "$dir/pid"
}

case $command in
  up) up ;;
  # It keeps nothing, so there is nothing to end well.
  down | kill) stop ;;
  pause) kill -STOP "$(pid || die "it does not run.")" ;;
  wipe)
    # Only a folder that this script made: `--dir ~` must not cost a home.
    [ -f "$dir/kind" ] || exit 0
    stop
    forget tls pid redis.conf server.crt server.key server.log openssl.log
    ;;
  status)
    if pid >/dev/null; then echo "running at 127.0.0.1:$(recorded port)"; else echo "stopped, $dir"; exit 1; fi
    ;;
  # For setup.sh.
  can-start) ;;
  *) usage ;;
esac
