#!/usr/bin/env bash
# Formatting and clippy; any warning fails. In release, so that the native libraries, which
# take longest, are built once for lint, build and tests.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$ROOT"
cargo fmt --check || die "run cargo fmt."
cargo clippy --release --all-targets ${CI:+--locked} -- -D warnings
