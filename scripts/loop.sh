#!/usr/bin/env bash
# The closed loop against a real broker, in compressed event time: workers, lake, monitor, trainer and
# deployer run by themselves, something happens to the world, and what came of it is judged. docs/loop.md tells how.
#
#   SCENARIOS="taste-shift flash-crowd" scripts/loop.sh     some of them; all without
#   USERS ITEMS DAYS AT SPEED WORKERS                       the size of the world, and its pace
#
# NAME:online is the scenario without a trainer: what the ranker and live vectors mend by themselves.
# Verdicts, plots and logs stay in $DRIFTLINE_STATE_DIR/loop/NAME.
set -euo pipefail
. "$(dirname "$0")/env.sh"
broker=$ROOT/scripts/broker.sh
read -ra scenarios <<<"${SCENARIOS:-taste-shift taste-shift:online gradual creator-leaves broken-client \
bad-model slow-worker data-loss seasonal-only flash-crowd}"
users=${USERS:-1000} items=${ITEMS:-1500} days=${DAYS:-8} at=${AT:-5} speed=${SPEED:-2880x}
workers=${WORKERS:-2}
first=2 # The day after which the first model is trained.

if [ -z "${DRIFTLINE:-}" ]; then
  "$ROOT/scripts/setup.sh" build
  . "$ROOT/scripts/env.sh" # set-up may have fetched the library to link
  cd "$ROOT"
  say "Building, where something has changed."
  cargo build --release --quiet --bin driftline ${CI:+--locked}
fi
driftline=${DRIFTLINE:-$CARGO_TARGET_DIR/release/driftline}
results=$DRIFTLINE_STATE_DIR/loop
started=
pids=()
finish() {
  local code=$?
  trap '' INT TERM
  stop_all
  [ -z "$started" ] || "$broker" down
  exit "$code"
}
# stop_all: ends what this scenario has started, the last first, and waits for it.
stop_all() {
  local n
  for ((n = ${#pids[@]} - 1; n >= 0; n--)); do
    kill -CONT "${pids[n]}" 2>/dev/null || true
    kill "${pids[n]}" 2>/dev/null || true
  done
  for ((n = 0; n < ${#pids[@]}; n++)); do wait "${pids[n]}" 2>/dev/null || true; done
  pids=()
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$broker" status >/dev/null 2>&1 || started=1
bootstrap=$("$broker" up)

# configure FOLDER PREFIX: an installation of its own. What decides about data keeps its defaults; what
# is paced by the wall's clock is faster, as the event time that passes meanwhile is more.
configure() {
  cat >"$1/driftline.toml" <<TOML
[kafka]
bootstrap = "$bootstrap"
group = "$2"
[topics]
prefix = "$2."
[objects]
uri = "file://$1/objects"
[items]
publish_interval_ms = 200
[ranker]
publish_seconds = 2
[lake]
topics = ["interactions", "watch-events", "click-events"]
cut_seconds = 3
[deployment]
# A hundred users are a tenth here: fewer steps, each of the usual length.
heartbeat_ms = 200
shadow_share = 1.0
shadow_requests = 300
steps = [0.2, 0.5]
[training]
work_dir = "$1/work"
[monitor]
data_dir = "$1/monitor"
# What is asked for is asked for by what is found.
schedule = ""
# A world of a thousand people has quiet minutes at night.
gap_minutes = 60
# Its clicks come in clumps, so that bands are wide: at the usual 1440 no shift is ever found there.
minutes_to_false_alarm = 120.0
# In one that is days old, everything that counts what somebody has done grows: no news.
min_distance = 100.0
checkpoint_seconds = 1
[http]
listen = "127.0.0.1:0"
[log]
level = "info,librdkafka=error,rdkafka=error"
TOML
  export DRIFTLINE_CONFIG=$1/driftline.toml
}

# start NAME ARGS...: a part of the installation, in the background.
start() {
  "$driftline" "${@:2}" >"$folder/$1.log" 2>&1 &
  pids+=("$!")
}

# model NAME COMMAND WHY STEP: a script that makes a version by COMMAND and lets it take a STEP of
# `driftline deploy`, whatever was found.
model() {
  cat >"$folder/$1.sh" <<SH
set -e
sleep 6 # The archiver, which cuts every three seconds, has all that the waiting world has done.
'$driftline' $2 >'$folder/$1.json' || [ \$? = 2 ]
version=\$(grep -o '"version": *"[0-9a-f]\{16\}"' '$folder/$1.json' | head -n 1 | cut -d '"' -f 4)
'$driftline' deploy $4 "\$version" --force '$3' --wait || sleep 2
'$driftline' deploy status | grep -q "\$version" # It may have been decided all the same.
SH
}

# live NAME AT: a world in which the scenario begins at AT, and the installation around it.
live() {
  local name=$1 scenario=${1%%:*} own=() n
  [ "$name" != oracle ] || scenario=taste-shift
  folder=$results/${1/:/-}
  rm -rf "$folder"
  mkdir -p "$folder"
  configure "$folder" "loop-$$-${name/:/-}"
  "$driftline" topics apply >"$folder/topics.log"
  for ((n = 1; n <= workers; n++)); do start "worker-$n" worker --set "worker.data_dir=$folder/state-$n"; done
  local slow=${pids[0]}
  start archive archive
  case $name in
    oracle) ;;
    *:online) start monitor monitor ;;
    *)
      start monitor monitor
      start trainer train --watch
      start deployer deploy run
      own+=(--training-takes 1h) # Of its time, whatever the machine.
      ;;
  esac
  model first "train --json" "the first that is trained" promote
  own+=(--run-at "${first}d:sh '$folder/first.sh'")
  case $name in
    oracle)
      model again "train --json" "trained at once" promote
      own+=(--run-at "${at}d:sh '$folder/again.sh'")
      ;;
    bad-model)
      model bad "simulate scramble" "a mistake" start
      own+=(--run-at "${at}d:sh '$folder/bad.sh'")
      ;;
    slow-worker)
      # A tenth of the time is left to it, for a minute of the wall.
      own+=(--run-at "${at}d:(for n in \$(seq 60); do kill -STOP $slow; sleep 0.9; kill -CONT $slow; \
sleep 0.1; done) >/dev/null 2>&1 &")
      ;;
  esac
  "$driftline" simulate --users "$users" --items "$items" --days "$days" --head-start "${at}d" \
    --speed "$speed" --scenario "$scenario" --at "$2" --json "${own[@]}" \
    >"$folder/world.json" 2>"$folder/world.log" &
  # In the background, so that a signal is heard while it runs.
  local world=$!
  pids+=("$world")
  wait "$world" || { tail -n 5 "$folder/world.log" >&2; return 1; }
}

# settle: until the monitor has nothing more to note.
settle() {
  local before='' now=
  [ -e "$folder/monitor" ] || return 0
  while now=$(cksum "$folder/monitor/state.json" 2>/dev/null || true); [ "$now" != "$before" ]; do
    before=$now
    sleep 3
  done
}

verdicts=()
for name in "${scenarios[@]}"; do
  begun=$SECONDS
  oracle=()
  case $name in
    taste-shift*)
      known=$results/oracle-$users-$items-$days-$at.json
      if [ ! -e "$known" ]; then
        say "An oracle: the same people, who have always had the tastes that others turn to."
        live oracle 0s
        cp "$folder/world.json" "$known"
        stop_all
      fi
      oracle=(--oracle "$known")
      ;;
  esac
  say "$name: $days days of event time."
  live "$name" "${at}d"
  settle
  "$driftline" simulate judge "$folder/world.json" "${oracle[@]}" --label "$name" \
    --plot "$folder/plot.svg" >"$folder/verdict.json"
  verdicts+=("$folder/verdict.json")
  stop_all
  rm -rf "$folder"/state-* "$folder/objects" "$folder/work"
  say "$name took $((SECONDS - begun)) s; $folder has its verdict, plot and logs."
done
echo
"$driftline" simulate table "${verdicts[@]}" | tee "$results/table.txt"
