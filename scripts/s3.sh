#!/usr/bin/env bash
# An S3 server for tests of the object store, on loopback and a port of its own: Versity's gateway
# over a folder.
#
#   up     start it unless it runs; prints http://127.0.0.1:PORT, and only that, on stdout
#   down   stop it; the objects stay
#   pause  let it hang: it keeps its connections and answers nothing; `up` lets it go on
#   kill   kill it at once, as a crash would; `up` starts it again on the same port
#   wipe   stop it and remove its folder
#   status whether it runs
#
# Options: --dir DIR (one server per folder; also DRIFTLINE_S3_DIR). Its bucket is `lake`; keys are
# `driftline` and `driftline-secret`. The program is built once, by Go, into the cache.
set -euo pipefail
. "$(dirname "$0")/server.sh"

START_SECONDS=30 # usually 1
VERSION=v1.8.0

command=${1:-}
[ $# -eq 0 ] || shift
dir=${DRIFTLINE_S3_DIR:-$DRIFTLINE_CACHE/s3}
while [ $# -gt 0 ]; do
  case $1 in
    --dir) dir=${2:?--dir needs a folder}; shift 2 ;;
    *) usage ;;
  esac
done
dir=$(absolute "$dir")
program=$DRIFTLINE_CACHE/versitygw/$VERSION/versitygw

prepare() {
  [ ! -x "$program" ] || return 0
  have go || die "the S3 server is built by Go, which is missing: https://go.dev/dl"
  say "Building versitygw $VERSION (usually 80 s)."
  GOBIN=$(dirname "$program") go install "github.com/versity/versitygw/cmd/versitygw@$VERSION" >&2 ||
    die "versitygw could not be built."
}

# The process that this folder's file names, where it still is a versitygw.
pid() {
  local p
  p=$(cat "$dir/pid" 2>/dev/null) || return 1
  [ -n "$p" ] && [ "$(cat "/proc/$p/comm" 2>/dev/null || ps -o comm= -p "$p" 2>/dev/null)" = versitygw ] &&
    echo "$p"
}

start() {
  local i
  mkdir -p "$dir/objects/lake"
  ROOT_ACCESS_KEY=driftline ROOT_SECRET_KEY=driftline-secret \
    nohup "$program" --port "127.0.0.1:$1" posix --sidecar "$dir/sidecar" "$dir/objects" \
    >>"$dir/server.log" 2>&1 </dev/null &
  echo $! >"$dir/pid"
  for ((i = 0; i < START_SECONDS * 20; i++)); do
    if listens "$1"; then return 0; fi
    # By its number: until it is loaded it has another name.
    kill -0 "$(cat "$dir/pid")" 2>/dev/null || return 1
    sleep 0.05
  done
  return 1
}

up() {
  local p
  prepare
  mkdir -p "$dir/sidecar"
  echo s3 >"$dir/kind"
  if p=$(pid); then kill -CONT "$p"; else start_on_a_port versitygw; fi
  echo "http://127.0.0.1:$(recorded port)"
}

stop() {
  local p i
  p=$(pid) || return 0
  # One that is paused hears nothing but this.
  kill -KILL "$p"
  for ((i = 0; i < START_SECONDS * 20; i++)); do
    kill -0 "$p" 2>/dev/null || break
    sleep 0.05
  done
  rm -f "$dir/pid"
}

case $command in
  up) up ;;
  down | kill) stop ;;
  pause) kill -STOP "$(pid || die "it does not run.")" ;;
  wipe)
    # Only a folder that this script made: `--dir ~` must not cost a home.
    [ -f "$dir/kind" ] || exit 0
    stop
    forget pid server.log objects sidecar nohup.out
    ;;
  status)
    if pid >/dev/null; then echo "running at http://127.0.0.1:$(recorded port)"; else echo "stopped, $dir"; exit 1; fi
    ;;
  # For setup.sh.
  can-start) [ -x "$program" ] || have go ;;
  prepare) prepare ;;
  *) usage ;;
esac
