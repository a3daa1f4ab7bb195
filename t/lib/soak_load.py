#!/usr/bin/python3
"""The load of t/soak: one process that publishes for ever, one that collects results.

    soak_load.py publish URL LOG PREFIX RATE KINDS SEED
    soak_load.py collect URL LOG

publish sends RATE messages a second under correlation_ids PREFIX1, PREFIX2, ..., whatever
becomes of the broker, until its input ends; then it sends again what has to be, and ends.  KINDS
says which identities messages have: f feedback_id, m message_id, n none but the correlation_id.
What the broker has not confirmed is sent again if it has a message_id, or was certainly not
taken; else it is noted as unsure.  Lines of its log: "TIME sure|unsure ID".

collect notes every result as "TIME ID MESSAGE_ID ERROR TEXT", until its input ends.

An ID ends with the kind of identity and with what the message is about: - is to succeed, b has a
field that does not exist, t is refused by a trigger of the test's.
"""

import json
import random
import select
import sys
import time

import pika
import pika.exceptions

IMPORT = "database_import"
RESULT = "database_import_result"
NAP = 0.1                       # between attempts to connect
CHUNK = 25                      # messages confirmed together


def ended():
    """The input is at its end: nothing else is ever said there."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


def connect(url, name):
    parameters = pika.URLParameters(url)
    parameters.client_properties = {"connection_name": name}
    parameters.heartbeat = 0
    parameters.blocked_connection_timeout = None
    parameters.socket_timeout = 5
    parameters.connection_attempts = 1
    return pika.BlockingConnection(parameters)


class Publisher:
    def __init__(self, url, log, prefix, rate, kinds, seed):
        self.url, self.prefix, self.rate, self.kinds = url, prefix, rate, kinds
        self.log = open(log, "a", buffering=1)
        self.random = random.Random(seed)
        self.number = 0
        self.again = []
        self.connection = None

    def note(self, what, number):
        self.log.write("%.6f %s %s\n" % (time.time(), what, number))

    def make(self):
        """(id, may be sent twice, body, properties)"""
        self.number += 1
        rnd = self.random
        what = "b" if rnd.random() < 0.01 else "t" if rnd.random() < 0.01 else "-"
        kind = rnd.choice(self.kinds)
        ident = "%s%d%s%s" % (self.prefix, self.number, kind, what)
        data = {"points": {"action": "incr", "value": 1}, "last": ident}
        if what == "b":
            data["nosuch"] = 1
        if rnd.random() < 0.02:
            data["note"] = "x" * rnd.randrange(300000)
        email = "new-%s" % ident if rnd.random() < 0.2 else "p%d" % rnd.randrange(50)
        if what == "t":
            email = "refused"
        message = {"account_id": 1, "db_id": 1, "email": email + "@example.com", "data": data}
        properties = {"correlation_id": ident, "delivery_mode": 2}
        if kind in "fm":
            message["feedback_id"] = ident
        if kind == "m":
            properties["message_id"] = "m" + ident
        return ident, kind == "m", json.dumps(message), properties

    def open(self):
        self.connection = connect(self.url, "profimport-test-soak-publish")
        self.channel = self.connection.channel()
        self.tag = 0
        self.unconfirmed = {}
        self.returned = {}
        self.refused = []
        selected = []
        self.channel._impl.confirm_delivery(self.confirmed, callback=selected.append)
        self.connection._flush_output(lambda: selected)
        self.channel._impl.add_on_return_callback(
            lambda ch, method, properties, body: self.returned.update({properties.correlation_id: True}))

    def confirmed(self, frame):
        tag = frame.method.delivery_tag
        tags = [t for t in self.unconfirmed if t <= tag] if frame.method.multiple else [tag]
        for t in tags:
            item = self.unconfirmed.pop(t, None)
            if item is None:
                continue
            if isinstance(frame.method, pika.spec.Basic.Nack) and not item[1]:
                self.note("unsure", item[0])
            elif isinstance(frame.method, pika.spec.Basic.Nack) or item[0] in self.returned:
                self.again.append(item)
            else:
                self.note("sure", item[0])

    def lost(self):
        """The connection is gone: what becomes of what it carried?"""
        for item in self.unconfirmed.values():
            if item[1]:
                self.again.append(item)
            else:
                self.note("unsure", item[0])
        self.unconfirmed = {}
        try:
            self.connection.close()
        except Exception:
            pass
        self.connection = None

    def send(self, items):
        for item in items:
            self.tag += 1
            self.unconfirmed[self.tag] = item
        # All of them are noted before the first is sent, so that none is forgotten.
        for item in items:
            self.channel.basic_publish("", IMPORT, item[2].encode(), pika.BasicProperties(**item[3]),
                                       mandatory=True)
        self.connection._flush_output(lambda: not self.unconfirmed or not self.channel.is_open)
        if not self.channel.is_open:
            raise pika.exceptions.ChannelClosed(0, "closed")

    def run(self):
        due = time.time()
        self.unconfirmed = {}
        while True:
            end = ended()
            if end and not self.again:
                break
            try:
                if self.connection is None:
                    self.open()
                items, self.again = self.again[:CHUNK], self.again[CHUNK:]
                if not items and not end:
                    items = [self.make() for _ in range(CHUNK)]
                self.send(items)
                if self.returned:
                    # the queue is not there: let somebody declare it
                    self.returned = {}
                    time.sleep(NAP)
            except (pika.exceptions.AMQPError, OSError):
                if self.connection is None:
                    time.sleep(NAP)
                else:
                    self.lost()
            due = max(due + CHUNK / self.rate, time.time() - 1)
            time.sleep(max(0, due - time.time()))


def collect(url, log):
    log = open(log, "a", buffering=1)
    connection = None
    while not ended():
        try:
            if connection is None:
                connection = connect(url, "profimport-test-soak-collect")
            channel = connection.channel()
            channel.basic_qos(prefetch_count=200)
            for method, properties, body in channel.consume(RESULT, inactivity_timeout=0.2):
                if method is not None:
                    answer = json.loads(body)
                    log.write("%.6f %s %s %d %s\n" % (time.time(), properties.correlation_id,
                                                      properties.message_id, answer["error"], answer["error_text"]))
                    channel.basic_ack(method.delivery_tag)
                if ended():
                    return
            # cancelled by the broker, which has lost the queue
            channel.close()
        except (pika.exceptions.AMQPError, OSError):
            if connection is not None and not connection.is_open:
                connection = None
            time.sleep(NAP)


def main():
    if sys.argv[1] == "publish":
        url, log, prefix, rate, kinds, seed = sys.argv[2:]
        Publisher(url, log, prefix, float(rate), kinds, seed).run()
    else:
        collect(*sys.argv[2:])


if __name__ == "__main__":
    main()
