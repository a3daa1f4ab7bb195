#!/usr/bin/python3
"""A producer of profiles in Python with pika: publish, be sure of it, wait for the results.

    producer.py [URL] <outbox.tsv

Each line of the input is a key, a tab and a message.  The key becomes the message_id: whoever
sends a key again within profimport.dedup_window, after a crash, say, is answered with the
first result, and nothing is written twice.  Prints a line per result: key, outcome, result.
Ends with 0 if every message was answered with error 0.
"""

import json
import sys
import time

import pika
import pika.exceptions

IMPORT_QUEUE = "database_import"
RESULT_QUEUE = "database_import_result"
WAIT = 60       # seconds for all results


def publish(channel, key, body):
    # After confirm_delivery() this returns when the broker has the message, and raises
    # UnroutableError if the queue is missing, NackError if the broker refused the message.
    channel.basic_publish(
        exchange="", routing_key=IMPORT_QUEUE, body=body.encode(), mandatory=True,
        properties=pika.BasicProperties(content_type="application/json", delivery_mode=2,
                                        message_id=key, correlation_id=key))


def publish_all(parameters, outbox):
    """What was not confirmed when a connection broke is sent again, under the same message_id."""
    waiting = list(outbox.items())
    deadline = time.monotonic() + WAIT
    while waiting:
        try:
            with pika.BlockingConnection(parameters) as connection:
                channel = connection.channel()
                channel.confirm_delivery()
                while waiting:
                    publish(channel, *waiting[0])
                    del waiting[0]
        except (pika.exceptions.AMQPConnectionError, pika.exceptions.ChannelWrongStateError):
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def wait_for_results(parameters, keys):
    """Results by key.  Those of other producers stay unacknowledged: they go back to the queue at the end."""
    results = {}
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        deadline = time.monotonic() + WAIT
        # Yields nothing but None after "inactivity_timeout" seconds without a result.
        for method, properties, body in channel.consume(RESULT_QUEUE, inactivity_timeout=1):
            if method is not None and properties.correlation_id in keys:
                # Store the result where it belongs before you acknowledge it.  It can come twice.
                results[properties.correlation_id] = (properties.headers["outcome"], json.loads(body))
                channel.basic_ack(method.delivery_tag)
            if len(results) == len(keys) or time.monotonic() > deadline:
                break
    return results


def main():
    parameters = pika.URLParameters(sys.argv[1] if len(sys.argv) > 1 else "amqp://guest:guest@localhost:5672/%2F")
    outbox = dict(line.rstrip("\n").split("\t", 1) for line in sys.stdin)
    publish_all(parameters, outbox)
    results = wait_for_results(parameters, outbox.keys())
    for key in outbox:
        outcome, result = results.get(key, ("no result", None))
        print(key, outcome, json.dumps(result, ensure_ascii=False))
    return 0 if all(key in results and results[key][1]["error"] == 0 for key in outbox) else 1


if __name__ == "__main__":
    sys.exit(main())
