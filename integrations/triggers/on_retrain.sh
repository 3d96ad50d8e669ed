#!/usr/bin/env bash
# Starts a command for each RETRAIN, once. Needs kcat and jq.
#
#   on_retrain.sh localhost:9092 ./train.sh
#
# The command gets the trigger as JSON on standard input and its id as EVENT_ID. What was acted on is an
# empty file named after the event. The topic is read from its beginning each time, so no offset can be
# noted too early. MAX_AGE_HOURS (24), TOPIC and ACTED (a folder) can be set.
set -euo pipefail
bootstrap=$1
shift
topic=${TOPIC:-retrain-triggers-json}
acted=${ACTED:-acted}
oldest=$((($(date +%s) - ${MAX_AGE_HOURS:-24} * 3600) * 1000))
mkdir -p "$acted"

# -e ends at the topic's end: run it from cron or a loop; without it, it follows. %T is when it was told.
kcat -b "$bootstrap" -C -t "$topic" -o beginning -q ${ONCE:+-e} -f '%T %s\n' |
  while read -r told trigger; do
    [ "$told" -ge "$oldest" ] || continue
    jq -e '.action == "RETRAIN" and .data_quality.passed' <<<"$trigger" >/dev/null || continue
    event=$(jq -r .event_id <<<"$trigger")
    [ ! -e "$acted/$event" ] || continue
    jq -r '.event_id + ": " + .reason' <<<"$trigger"
    EVENT_ID=$event "$@" <<<"$trigger"
    touch "$acted/$event"
  done
