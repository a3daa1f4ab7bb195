#!/usr/bin/python3
"""An AMQP client that is spoken to in lines of JSON: the hands of ProfImport::Amqp.

    amqp_agent.py URL CONNECTION_NAME

Each line of standard input is a request {"op": ..., "queue": ...}, each line of
standard output its answer: {"result": ...} or {"error": "..."}.  It connects when the
first request comes, and again after the connection broke; ends with its input.
"""

import base64
import json
import sys
import time

import pika
import pika.exceptions

PROPERTIES = ("content_type", "content_encoding", "headers", "delivery_mode", "priority",
              "correlation_id", "reply_to", "expiration", "message_id", "timestamp", "type",
              "user_id", "app_id")


class Agent:
    def __init__(self, url, name):
        self.parameters = pika.URLParameters(url)
        self.parameters.client_properties = {"connection_name": name}
        # A test may leave the connection alone for as long as it likes.
        self.parameters.heartbeat = 0
        self.parameters.blocked_connection_timeout = None
        self.parameters.socket_timeout = 20
        self.connection = None
        self.channels = {}

    def channel(self, kind="plain"):
        """A channel for each kind of work, so that a refused one spoils no other."""
        if self.connection is None or not self.connection.is_open:
            self.channels = {}
            self.connection = pika.BlockingConnection(self.parameters)
        channel = self.channels.get(kind)
        if channel is None or not channel.is_open:
            channel = self.connection.channel()
            if kind == "publish":
                self.select_confirms(channel)
            self.channels[kind] = channel
        return channel

    def select_confirms(self, channel):
        """Confirms collected in the background: pika's own way waits after each message."""
        self.published = 0
        self.unconfirmed = set()
        self.refused = []
        selected = []

        def confirmed(frame):
            tag, multiple = frame.method.delivery_tag, frame.method.multiple
            if isinstance(frame.method, pika.spec.Basic.Nack):
                self.refused.append("the broker refused message %d" % tag)
            if multiple:
                self.unconfirmed = {t for t in self.unconfirmed if t > tag}
            else:
                self.unconfirmed.discard(tag)

        channel._impl.confirm_delivery(confirmed, callback=selected.append)
        self.connection._flush_output(lambda: selected)
        channel._impl.add_on_return_callback(
            lambda ch, method, properties, body: self.refused.append(method.reply_text))

    def handle(self, request):
        operation = getattr(self, "do_" + request["op"])
        try:
            return operation(request)
        except (pika.exceptions.ConnectionClosed, pika.exceptions.StreamLostError,
                pika.exceptions.ChannelWrongStateError, pika.exceptions.ConnectionWrongStateError):
            self.drop()
            return operation(request)

    def drop(self):
        try:
            if self.connection is not None and self.connection.is_open:
                self.connection.close()
        except Exception:
            pass
        self.connection = None

    def do_publish(self, request):
        """All of them, then waits until the broker has confirmed them."""
        channel = self.channel("publish")
        self.refused = []
        for message in request["messages"]:
            properties = {k: v for k, v in message.items() if k not in ("body", "body64")}
            unknown = set(properties) - set(PROPERTIES)
            if unknown:
                raise ValueError("no such property: " + ", ".join(sorted(unknown)))
            properties.setdefault("delivery_mode", 2)
            if "body64" in message:
                body = base64.b64decode(message["body64"])
            else:
                body = message["body"].encode()
            self.published += 1
            self.unconfirmed.add(self.published)
            channel.basic_publish(request["exchange"], request["queue"], body,
                                  pika.BasicProperties(**properties), mandatory=True)
        self.connection._flush_output(lambda: not self.unconfirmed or not channel.is_open)
        if not channel.is_open:
            raise ValueError("the broker closed the channel")
        if self.refused:
            raise ValueError(self.refused[0])

    def do_consume(self, request):
        """count messages, or, with count 0, all until none comes for timeout seconds.

        A queue that is not there (yet) is one without messages.
        """
        count, timeout = request["count"], request["timeout"]
        found = []
        deadline = time.monotonic() + timeout
        while self.do_look(request) is None:
            if count == 0 or time.monotonic() >= deadline:
                return found
            self.connection.process_data_events(0.05)
        channel = self.channel("consume")
        channel.basic_qos(prefetch_count=min(count, 1000) or 1000)
        last = None                 # received and not acknowledged yet
        try:
            while count == 0 or len(found) < count:
                left = timeout if count == 0 else deadline - time.monotonic()
                if left <= 0:
                    break
                method, properties, body = next(
                    channel.consume(request["queue"], inactivity_timeout=left))
                if method is None:
                    if count == 0 or time.monotonic() >= deadline:
                        break
                    continue
                found.append(describe(method, properties, body))
                last = method.delivery_tag
                if request["ack"] and len(found) % 500 == 0:
                    channel.basic_ack(last, multiple=True)
                    last = None
            if request["ack"] and last is not None:
                channel.basic_ack(last, multiple=True)
        finally:
            if channel.is_open:
                channel.cancel()
                channel.close()
        return found

    def do_get(self, request):
        channel = self.channel()
        method, properties, body = channel.basic_get(request["queue"])
        if method is None:
            return None
        if request["ack"]:
            channel.basic_ack(method.delivery_tag)
        else:
            channel.basic_nack(method.delivery_tag)
        return describe(method, properties, body)

    def do_declare(self, request):
        self.channel().queue_declare(
            request["queue"], durable=bool(request["durable"]), exclusive=bool(request["exclusive"]),
            auto_delete=bool(request["auto_delete"]), arguments=request["arguments"])

    def do_delete(self, request):
        self.channel().queue_delete(request["queue"])

    def do_purge(self, request):
        self.channel().queue_purge(request["queue"])

    def do_look(self, request):
        try:
            found = self.channel().queue_declare(request["queue"], passive=True).method
        except pika.exceptions.ChannelClosedByBroker as error:
            if error.reply_code == 404:
                return None
            raise
        return {"messages": found.message_count, "consumers": found.consumer_count}

    def do_exchange(self, request):
        self.channel().exchange_declare(
            request["queue"], exchange_type=request["type"], durable=bool(request.get("durable", True)),
            arguments=request.get("arguments"))

    def do_bind(self, request):
        if request.get("to_exchange"):
            self.channel().exchange_bind(request["to_exchange"], request["exchange"], request["routing_key"])
            return
        self.channel().queue_bind(request["queue"], request["exchange"], request["routing_key"])


def describe(method, properties, body):
    message = {"redelivered": method.redelivered, "routing_key": method.routing_key,
               "exchange": method.exchange}
    for name in PROPERTIES:
        value = getattr(properties, name)
        if value is not None:
            message[name] = value
    try:
        message["body"] = body.decode("ascii")
    except UnicodeDecodeError:
        message["body64"] = base64.b64encode(body).decode()
    return message


def main():
    agent = Agent(sys.argv[1], sys.argv[2])
    for line in sys.stdin:
        try:
            answer = {"result": agent.handle(json.loads(line))}
        except Exception as error:
            answer = {"error": "%s: %s" % (type(error).__name__, error)}
        sys.stdout.write(json.dumps(answer, default=str) + "\n")
        sys.stdout.flush()
    agent.drop()


if __name__ == "__main__":
    main()
