#!/usr/bin/env bash
# Writes docs/dashboard.png: what the page shows in Chromium, as the test that drives it saw it.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$ROOT"

folder=$(mktemp -d "${TMPDIR:-/tmp}/driftline-screenshots.XXXXXX")
trap 'rm -rf "$folder"' EXIT
DRIFTLINE_SCREENSHOTS=$folder cargo test --release --test dashboard the_page
[ -f "$folder/tour.png" ] || die "no picture was taken: Chromium is missing. Get it with: scripts/setup.sh test"
size=$(wc -c <"$folder/tour.png")
[ "$size" -lt 300000 ] || die "the picture has $size bytes; at most 300000 belong in the repository."
cp "$folder/tour.png" docs/dashboard.png
say "docs/dashboard.png has $size bytes."
