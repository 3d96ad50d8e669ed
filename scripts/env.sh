# shellcheck shell=bash
# Sourced by the scripts and by the Makefile's recipes: where things are, and four helpers.
# Everything that is fetched or built lives in one cache outside the checkout, so that a
# second clone starts warm and `git clean` costs nothing.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
export DRIFTLINE_CACHE=${DRIFTLINE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/driftline}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$DRIFTLINE_CACHE/target}
# What the demo keeps between runs; `make clean-state` removes it.
export DRIFTLINE_STATE_DIR=${DRIFTLINE_STATE_DIR:-$DRIFTLINE_CACHE/demo}

# "0.19.0+11.8.1" in Cargo.lock means RocksDB 11.8.1: bindings and library must match exactly.
ROCKSDB_VERSION=$(sed -n '/^name = "librocksdb-sys"$/{n;s/^version = ".*+\(.*\)"$/\1/p;}' \
  "$ROOT/Cargo.lock" 2>/dev/null || true)
ROCKSDB_CACHE=$DRIFTLINE_CACHE/rocksdb/$ROCKSDB_VERSION

# Link the ready-made RocksDB if scripts/rocksdb.sh has fetched it; build.rs adds the rpath.
if [ -z "${ROCKSDB_LIB_DIR:-}" ] && [ "${DRIFTLINE_ROCKSDB:-}" != source ] &&
  { [ -f "$ROCKSDB_CACHE/librocksdb.so" ] || [ -f "$ROCKSDB_CACHE/librocksdb.dylib" ]; }; then
  export ROCKSDB_LIB_DIR=$ROCKSDB_CACHE
fi

say() { printf 'driftline: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# True if `java` is 17 or newer, which the broker's jars need.
java_17() {
  have java || return 1
  local major
  major=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
  [ "${major:-0}" -ge 17 ]
}

# mvn_quiet ARGS...: Maven without chatter; its own words are shown only when it fails.
# -C: a download whose checksum is wrong is refused, not merely mentioned.
mvn_quiet() {
  local out
  out=$(mvn -q -B -C -Dstyle.color=never "$@" 2>&1) && return
  printf '%s\n' "$out" | grep -m 1 ERROR | cut -c 1-300 >&2
  return 1
}

# run CMD...: run CMD as a process group of its own and pass INT and TERM on to all of it,
# so that Ctrl-C, or a TERM sent to the script alone, ends CMD first and clean-up comes after.
run() {
  local pid code=0
  set -m
  "$@" &
  pid=$!
  set +m
  trap 'kill -INT -- -'"$pid"' 2>/dev/null || true' INT
  trap 'kill -TERM -- -'"$pid"' 2>/dev/null || true' TERM
  wait "$pid" || code=$?
  # A signal ends `wait` early: wait again until CMD itself has ended.
  while kill -0 "$pid" 2>/dev/null; do
    code=0
    wait "$pid" || code=$?
  done
  trap - INT TERM
  return "$code"
}
