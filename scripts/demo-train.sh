#!/usr/bin/env bash
# A first model from its own traffic, against a real broker: a world of simulated users, a worker,
# the lake, training, its report, promotion, and what came of the lists of each version.
# DAYS of event time (4); the broker is stopped at the end, what was made stays to be looked at.
set -euo pipefail
. "$(dirname "$0")/env.sh"
broker=$ROOT/scripts/broker.sh
days=${DAYS:-4}

"$ROOT/scripts/setup.sh" build
. "$ROOT/scripts/env.sh" # set-up may have fetched the library to link
cd "$ROOT"
say "Building, where something has changed."
cargo build --release --quiet --bin driftline ${CI:+--locked}
driftline=$CARGO_TARGET_DIR/release/driftline

folder=$DRIFTLINE_STATE_DIR/train
rm -rf "$folder"
mkdir -p "$folder"
started=
worker=
world=
finish() {
  local code=$?
  trap '' INT TERM
  for pid in $world $worker; do
    kill "$pid" 2>/dev/null && wait "$pid" || true
  done
  [ -z "$started" ] || "$broker" down
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$broker" status >/dev/null 2>&1 || started=1
bootstrap=$("$broker" up)
cat >"$folder/driftline.toml" <<TOML
[kafka]
bootstrap = "$bootstrap"
group = "demo-train-$$"
[topics]
prefix = "demo-train-$$."
[worker]
data_dir = "$folder/state"
[objects]
uri = "file://$folder/objects"
[training]
work_dir = "$folder/work"
[http]
listen = "127.0.0.1:0"
[log]
level = "warn,librdkafka=error,rdkafka=error"
TOML
export DRIFTLINE_CONFIG=$folder/driftline.toml

# step TEXT COMMAND...: says what is done, and does it.
step() {
  printf '\n%s\n  $ driftline %s\n' "$1" "${*:2}" >&2
  "$driftline" "${@:2}"
}

"$driftline" topics apply >"$folder/topics.log"
"$driftline" worker >"$folder/worker.log" 2>&1 &
worker=$!
printf '\nA world of users watches, clicks and asks for %s days of event time. Two days first.\n' "$days" >&2
"$driftline" simulate --days "$days" >"$folder/world.log" 2>&1 &
world=$!
shown=0
while kill -0 "$world" 2>/dev/null && ! grep -q '^day 3 ' "$folder/world.log"; do
  sleep 1
  lines=$(grep -c '^day ' "$folder/world.log" || true)
  if [ "$lines" -ge $((shown + 4)) ]; then
    shown=$lines
    grep '^day ' "$folder/world.log" | tail -n 1
  fi
done

step "What happened so far goes to the lake, while the world goes on." \
  archive --once --topics interactions,watch-events,click-events
step "A model is trained on it, and judged on the newest tenth against what serves." \
  train --report "$folder/report" >"$folder/train.log" || [ $? = 2 ]
sed -n '1,/^!/p' "$folder/report/report.md" | sed '$d'
version=$(sed -n 's/^# Model //p' "$folder/report/report.md")
if step "It is to serve." models promote "$version"; then :; else
  step "It is not better than what serves; the demo promotes it all the same." \
    models promote "$version" --force "a demonstration"
fi
step "Anyone's list names it from now on." recommend --user u0000042 --count 3

printf '\nThe world goes on to its end.\n' >&2
wait "$world" || true
world=
grep '^day ' "$folder/world.log" | tail -n 1
tail -n 3 "$folder/world.log"
step "What came of the lists, by the version that made them." metrics --by model --last 10000h
step "Versions." models list
printf '\nThe report: %s/report.md, its plot: %s/recall.svg\n' "$folder/report" "$folder/report" >&2
