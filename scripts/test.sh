#!/usr/bin/env bash
# Everything that must hold before a change lands: set-up, lint, build, all tests against a
# broker of their own, and a short run of the demo. Ends with the time each stage took.
# A stage that fails ends the run; the broker is stopped whatever happens.
set -euo pipefail
. "$(dirname "$0")/env.sh"
broker=$ROOT/scripts/broker.sh
cd "$ROOT"

work=$(mktemp -d "${TMPDIR:-/tmp}/driftline-test.XXXXXX")
given=${DRIFTLINE_BOOTSTRAP:-}
# Broker and demo state of a test run have nothing to do with those of `make demo`.
export DRIFTLINE_BROKER_DIR=$work/broker DRIFTLINE_STATE_DIR=$work/demo
locked=${CI:+--locked}
times=()

finish() {
  local code=$?
  trap '' INT TERM
  if [ "$code" != 0 ] && [ -f "$DRIFTLINE_BROKER_DIR/broker.log" ]; then
    cp "$DRIFTLINE_BROKER_DIR/broker.log" "$DRIFTLINE_CACHE/last-failed-test-broker.log"
    say "The broker's log is kept: $DRIFTLINE_CACHE/last-failed-test-broker.log"
  fi
  for dir in "$work/broker" "$work/demo-broker"; do "$broker" wipe --dir "$dir" || true; done
  rm -rf "$work"
  printf '\n'
  printf '%s\n' "${times[@]:-no stage was finished}" "$(printf '%-14s %4d s' total "$SECONDS")"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# stage NAME CMD...
stage() {
  local name=$1 began=$SECONDS code=0
  shift
  printf '\n== %s\n' "$name"
  run "$@" || code=$?
  [ "$code" = 0 ] || name="$name (failed)"
  times+=("$(printf '%-14s %4d s' "$name" $((SECONDS - began)))")
  [ "$code" = 0 ] || exit "$code"
}

smoke() {
  # The way a newcomer runs it: with a broker that it starts and stops by itself.
  DRIFTLINE_BOOTSTRAP=$given DRIFTLINE_BROKER_DIR=$work/demo-broker "$ROOT/scripts/demo.sh" --for 20s
}

stage setup "$ROOT/scripts/setup.sh" test
. "$ROOT/scripts/env.sh" # set-up may have fetched the library to link
stage lint "$ROOT/scripts/lint.sh"
# shellcheck disable=SC2086 # $locked may be empty
stage build cargo build --release $locked

broker_up() { "$broker" up >"$work/bootstrap"; }
stage broker broker_up
DRIFTLINE_BOOTSTRAP=$(cat "$work/bootstrap")
export DRIFTLINE_BOOTSTRAP
# shellcheck disable=SC2086
stage test cargo test --release --no-fail-fast $locked
stage demo smoke
