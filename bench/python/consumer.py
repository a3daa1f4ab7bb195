#!/usr/bin/python3
"""bench/python/consumer.py MODE HOST PORT VHOST IN OUT N

What is usually written in place of the bridge, with pika and psycopg2.

simple   a message is one transaction, one persistent result, whose confirm is
         waited for, one acknowledgement
batched  up to 500 messages are one multi-row upsert and one commit; their results
         are one AMQP transaction, the only way in which pika's blocking
         connection has many messages made safe at once; then one acknowledgement

In both a message is acknowledged when its commit is durable and its result is confirmed,
so nothing is lost; applied and not yet acknowledged, it is applied once more after a crash.  Both
check nothing but that a message is JSON: no types, no field list, no other way to match than the
email, no trigger events, no record of failures.  Says "ready PID" (of its backend),
begins with a line on standard input, says how many seconds it took, and ends when
standard input does.  The database is found by PGHOST, PGPORT, PGDATABASE.
"""
import json
import sys
import time

import pika
import psycopg2
from psycopg2.extras import execute_values

BATCH = 500

UPSERT = """
    INSERT INTO bench_profile AS p (account_id, db_id, email, data) VALUES %s
    ON CONFLICT (lower(email), db_id, account_id)
    DO UPDATE SET data = p.data || excluded.data, updated_at = now()
    RETURNING account_id, db_id, lower(email), id, xmax = 0"""


def key(body):
    return body["account_id"], body["db_id"], body["email"].lower()


def upsert(db, rows):
    with db.cursor() as cursor:
        values = [(r["account_id"], r["db_id"], r["email"], json.dumps(r["data"])) for r in rows]
        found = execute_values(cursor, UPSERT, values, template="(%s, %s, %s, %s::jsonb)",
                               page_size=BATCH, fetch=True)
    db.commit()
    return {(a, d, e): (i, created) for a, d, e, i, created in found}


def answer(channel, queue, tag, body, row):
    feedback_id = body.get("feedback_id", "") if body else ""
    result = {
        "error": 0 if row else 400,
        "error_text": "" if row else "the body is not valid JSON",
        "feedback_id": feedback_id,
        "matching_field": "email" if row else "",
        "profile_id": str(row[0]) if row else "",
    }
    outcome = ("created" if row[1] else "updated") if row else "failed"
    channel.basic_publish("", queue, json.dumps(result), pika.BasicProperties(
        content_type="application/json", delivery_mode=2, app_id="profimport",
        message_id=f"{tag}-{START}", correlation_id=feedback_id, expiration="86400000",
        headers={"outcome": outcome}), mandatory=True)


def parse(content):
    try:
        return json.loads(content)
    except ValueError:
        return None


def simple(db, incoming, outgoing, in_queue, out_queue, n):
    outgoing.confirm_delivery()
    incoming.basic_qos(prefetch_count=100)
    done = 0
    for method, _, content in incoming.consume(in_queue):
        body = parse(content)
        row = upsert(db, [body])[key(body)] if body else None
        answer(outgoing, out_queue, method.delivery_tag, body, row)
        incoming.basic_ack(method.delivery_tag)
        done += 1
        if done == n:
            return


def batched(db, incoming, outgoing, in_queue, out_queue, n):
    outgoing.tx_select()
    incoming.basic_qos(prefetch_count=2 * BATCH)
    done = 0
    batch = []
    for method, _, content in incoming.consume(in_queue, inactivity_timeout=0.01):
        if method is not None:
            batch.append((method.delivery_tag, parse(content)))
        if not batch or method is not None and len(batch) < BATCH:
            continue
        rows = {}
        for _, body in batch:
            if body is None:
                continue
            if key(body) in rows:
                rows[key(body)]["data"].update(body["data"])
            else:
                rows[key(body)] = body
        found = upsert(db, list(rows.values())) if rows else {}
        for tag, body in batch:
            answer(outgoing, out_queue, tag, body, found[key(body)] if body else None)
        outgoing.tx_commit()
        incoming.basic_ack(batch[-1][0], multiple=True)
        done += len(batch)
        batch = []
        if done >= n:
            return


mode, host, port, vhost, in_queue, out_queue, n = sys.argv[1:]
db = psycopg2.connect("")
parameters = pika.ConnectionParameters(host, int(port), vhost, heartbeat=60)
incoming = pika.BlockingConnection(parameters).channel()
outgoing = pika.BlockingConnection(parameters).channel()
incoming.queue_declare(in_queue, durable=True)
outgoing.queue_declare(out_queue, passive=True)
print("ready", db.get_backend_pid(), flush=True)
sys.stdin.readline()
START = time.time()
{"simple": simple, "batched": batched}[mode](db, incoming, outgoing, in_queue, out_queue, int(n))
print("%.6f" % (time.time() - START), flush=True)
sys.stdin.read()
