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
. "$(dirname "$0")/env.sh"

START_SECONDS=30 # usually 1

usage() { sed -n '2,/^set /{s/^# \{0,1\}//p;}' "$0" >&2; exit 2; }

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
case $dir in /*) ;; *) dir=$PWD/$dir ;; esac

server=$(command -v redis-server || echo /usr/bin/redis-server)
[ -x "$server" ] || die "Redis is missing. Get it with: apt-get install -y redis-server"

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() {
  local p i
  for ((i = 0; i < 100; i++)); do
    p=$((20000 + RANDOM % 12000))
    if ! listens "$p"; then
      echo "$p"
      return
    fi
  done
  die "no free port between 20000 and 32000."
}

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
  local i
  local key=--port port=$1
  [ ! -f "$dir/tls" ] || key=--tls-port
  "$server" "$dir/redis.conf" "$key" "$port" >/dev/null 2>&1 </dev/null || return 1
  for ((i = 0; i < START_SECONDS * 20; i++)); do
    if pid >/dev/null && listens "$port"; then return 0; fi
    sleep 0.05
  done
  return 1
}

up() {
  local port attempt p
  mkdir -p "$dir"
  if [ ! -f "$dir/kind" ]; then
    echo redis >"$dir/kind"
    [ -z "$tls" ] || touch "$dir/tls"
    settings >"$dir/redis.conf"
    chmod 600 "$dir/redis.conf"
  fi
  if [ -f "$dir/tls" ] && [ ! -f "$dir/server.crt" ]; then
    openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=127.0.0.1 \
      -addext subjectAltName=IP:127.0.0.1 -keyout "$dir/server.key" -out "$dir/server.crt" \
      >"$dir/server.log" 2>&1 || { tail -n 3 "$dir/server.log" >&2; die "openssl failed in $dir."; }
  fi
  if p=$(pid); then
    kill -CONT "$p"
    echo "127.0.0.1:$(cat "$dir/port")"
    return
  fi
  port=$(cat "$dir/port" 2>/dev/null || free_port)
  for attempt in 1 2 3; do
    rm -f "$dir/pid"
    if start "$port"; then
      echo "$port" >"$dir/port"
      echo "127.0.0.1:$port"
      return
    fi
    # A port that was taken meanwhile; one that clients know already cannot be changed.
    if [ -f "$dir/port" ] || [ "$attempt" = 3 ]; then break; fi
    port=$(free_port)
  done
  tail -n 3 "$dir/server.log" >&2 || true
  die "Redis did not start; all it said is in $dir/server.log."
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
    (cd "$dir" && rm -f kind tls port pid redis.conf server.crt server.key server.log)
    rmdir "$dir" 2>/dev/null || true
    ;;
  status)
    if pid >/dev/null; then echo "running at 127.0.0.1:$(cat "$dir/port")"; else echo "stopped, $dir"; exit 1; fi
    ;;
  # For setup.sh.
  can-start) ;;
  *) usage ;;
esac
