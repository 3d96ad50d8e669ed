#!/usr/bin/env bash
# Builds Driftline and shows it at work against a real Kafka broker: `demo.sh [ARGS]` passes
# ARGS to `driftline demo` and ends with its exit code. A broker that it started is stopped
# at the end or on Ctrl-C; one that was there before is left alone.
set -euo pipefail
. "$(dirname "$0")/env.sh"
broker=$ROOT/scripts/broker.sh

"$ROOT/scripts/setup.sh" build
. "$ROOT/scripts/env.sh" # set-up may have fetched the library to link

cd "$ROOT"
[ -x "$CARGO_TARGET_DIR/release/driftline" ] ||
  say "Building. The first time takes several minutes on 2 cores, later a moment."
# Beside the build: it is fetched and formatted before the compiler is half way.
"$broker" prepare &
preparing=$!
cargo build --release --quiet --bin driftline ${CI:+--locked}
wait "$preparing"

if ! "$broker" status >/dev/null 2>&1; then
  trap '"$broker" down' EXIT
fi
bootstrap=$("$broker" up)
# For the demo only: seeing it, broker.sh would take its own broker for somebody else's.
run env DRIFTLINE_BOOTSTRAP="$bootstrap" "$CARGO_TARGET_DIR/release/driftline" demo "$@"
