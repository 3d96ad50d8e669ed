#!/usr/bin/env python3
"""Starts a command for each RETRAIN, once.

    pip install confluent-kafka
    on_retrain.py localhost:9092 -- ./train.sh

The command gets the trigger as JSON on standard input and its id as EVENT_ID. What was acted on is a
row in SQLite; put it where your training leaves its own trace, so that both are one transaction.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import time

from confluent_kafka import Consumer, KafkaException


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bootstrap", help="host:port,… of Kafka")
    parser.add_argument("--topic", default="retrain-triggers-json")
    parser.add_argument("--group", default="on-retrain")
    parser.add_argument("--acted", default="acted.db", help="which events were acted on")
    parser.add_argument("--max-age-hours", type=float, default=24.0, help="older ones are left alone")
    parser.add_argument("--until-idle", type=float, help="end after so many seconds without a record")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    acted = sqlite3.connect(arguments.acted, isolation_level=None)
    acted.execute("CREATE TABLE IF NOT EXISTS acted (event_id TEXT PRIMARY KEY, at REAL)")
    consumer = Consumer({
        "bootstrap.servers": arguments.bootstrap,
        "group.id": arguments.group,
        "auto.offset.reset": "earliest",
        # Noted only after acting.
        "enable.auto.commit": False,
        # Training may take hours: the group must not take us for dead meanwhile.
        "max.poll.interval.ms": 86_400_000,
    })
    consumer.subscribe([arguments.topic])
    heard = time.monotonic()
    try:
        while True:
            message = consumer.poll(1.0)
            if message is None:
                if arguments.until_idle and time.monotonic() - heard > arguments.until_idle:
                    return
                continue
            if message.error():
                raise KafkaException(message.error())
            heard = time.monotonic()
            act(json.loads(message.value()), message.timestamp()[1], acted, arguments)
            consumer.commit(message, asynchronous=False)
    finally:
        consumer.close()


def act(trigger, told_at_ms, acted, arguments):
    if trigger["action"] != "RETRAIN" or not trigger["data_quality"]["passed"]:
        return
    event = trigger["event_id"]
    # By when it was told: event time may be another time altogether.
    if time.time() - told_at_ms / 1e3 > arguments.max_age_hours * 3_600:
        print(f"{event} is too old", flush=True)
        return
    if acted.execute("SELECT 1 FROM acted WHERE event_id = ?", (event,)).fetchone():
        print(f"{event} was acted on", flush=True)
        return
    print(f"{event}: {trigger['reason']}", flush=True)
    # Dying between these two runs the command again: it should know its EVENT_ID, too.
    subprocess.run(
        arguments.command,
        input=json.dumps(trigger).encode(),
        env={**os.environ, "EVENT_ID": event},
        check=True,
    )
    acted.execute("INSERT INTO acted VALUES (?, ?)", (event, time.time()))


if __name__ == "__main__":
    main()
