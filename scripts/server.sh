# shellcheck shell=bash
# Sourced by broker.sh, postgres.sh, redis.sh and s3.sh: what servers with a folder and a port of their
# own have in common. `dir` is the folder.

. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

usage() { sed -n '2,/^set /{s/^# \{0,1\}//p;}' "$0" >&2; exit 2; }

absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }

# What an earlier run wrote down in a file of the folder; empty where there was none.
recorded() { cat "$dir/$1" 2>/dev/null || true; }

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Below 32768, where no outgoing connection gets its own port from.
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

# start_on_a_port NAME: runs the script's own `start PORT`, on the port of before where there was
# one, since clients know it; otherwise on a free one, and on another if that is taken meanwhile.
start_on_a_port() {
  local attempt known
  known=$(recorded port)
  for attempt in 1 2 3; do
    port=${known:-$(free_port)}
    if start "$port"; then
      echo "$port" >"$dir/port"
      return
    fi
    [ -z "$known" ] || break
  done
  tail -n 3 "$dir/server.log" >&2 || true
  die "$1 did not start; all it said is in $dir/server.log."
}

# certificate [COMMAND...]: DIR/server.crt and its key for 127.0.0.1, signed by itself, unless
# they are there; made by way of COMMAND.
certificate() {
  [ ! -f "$dir/server.crt" ] || return 0
  "$@" openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=127.0.0.1 \
    -addext subjectAltName=IP:127.0.0.1 -keyout "$dir/server.key" -out "$dir/server.crt" \
    >"$dir/openssl.log" 2>&1 || { tail -n 3 "$dir/openssl.log" >&2; die "openssl failed in $dir."; }
  "$@" chmod 600 "$dir/server.key"
}

# forget FILE...: removes what the script put into the folder, and the folder where that was all.
forget() {
  (cd "$dir" && rm -rf kind port "$@")
  rmdir "$dir" 2>/dev/null || true
}
