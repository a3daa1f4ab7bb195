/*-------------------------------------------------------------------------
 *
 * amqp_publish.c
 *		Sending: publishes, acknowledgements, questions without waiting.
 *
 * NOTES
 *		Everything goes through the output buffer.  Publishes are collected
 *		there, so that a batch of results takes few system calls; small things
 *		that the broker waits for are written at once, an ack together with
 *		the probe behind it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "amqp_internal.h"
#include "mb/pg_wchar.h"

/* Method and properties: at most seven short strings of 255 bytes. */
#define HEAD_ROOM 4096

/*
 * A short string: up to 255 bytes, cut between characters.  (A property of a
 * delivery can be longer than what came if bytes were replaced in it.)
 */
static amqp_bytes_t
shortstr(const char *text)
{
	amqp_bytes_t bytes;

	bytes.len = strlen(text);
	if (bytes.len > 255)
		bytes.len = pg_encoding_mbcliplen(PG_UTF8, text, bytes.len, 255);
	bytes.bytes = unconstify(char *, text);
	return bytes;
}

/* Puts a frame around len bytes that lie at p + 7 already. */
static char *
close_frame(char *p, int type, size_t len)
{
	p[0] = (char) type;
	pi_put_u16(p + 1, PI_CHANNEL_WORK);
	pi_put_u32(p + 3, (uint32) len);
	p[7 + len] = (char) AMQP_FRAME_END;
	return p + len + PI_FRAME_OVERHEAD;
}

static char *
put_publish(PiAmqp *conn, char *p, const PiPublish *publish)
{
	amqp_basic_publish_t args;
	amqp_bytes_t room;
	int			len;

	memset(&args, 0, sizeof(args));
	args.routing_key = shortstr(publish->queue);
	args.mandatory = 1;
	pi_put_u32(p + 7, AMQP_BASIC_PUBLISH_METHOD);
	room.bytes = p + 11;
	room.len = HEAD_ROOM / 2;
	len = amqp_encode_method(AMQP_BASIC_PUBLISH_METHOD, &args, room);
	return len < 0 ? NULL : close_frame(p, AMQP_FRAME_METHOD, len + 4);
}

static char *
put_header(PiAmqp *conn, char *p, const PiPublish *publish)
{
	amqp_basic_properties_t props;
	amqp_table_entry_t outcome;
	amqp_bytes_t room;
	char		expiration[32];
	int			len;

	memset(&props, 0, sizeof(props));
	props._flags = AMQP_BASIC_CONTENT_TYPE_FLAG |
		AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_APP_ID_FLAG;
	props.content_type = amqp_cstring_bytes("application/json");
	props.delivery_mode = AMQP_DELIVERY_PERSISTENT;
	props.app_id = amqp_cstring_bytes("profimport");
	if (publish->message_id)
	{
		props._flags |= AMQP_BASIC_MESSAGE_ID_FLAG;
		props.message_id = shortstr(publish->message_id);
	}
	if (publish->correlation_id)
	{
		props._flags |= AMQP_BASIC_CORRELATION_ID_FLAG;
		props.correlation_id = shortstr(publish->correlation_id);
	}
	if (publish->type)
	{
		props._flags |= AMQP_BASIC_TYPE_FLAG;
		props.type = shortstr(publish->type);
	}
	if (publish->expiration_ms > 0)
	{
		props._flags |= AMQP_BASIC_EXPIRATION_FLAG;
		snprintf(expiration, sizeof(expiration), INT64_FORMAT,
				 publish->expiration_ms);
		props.expiration = amqp_cstring_bytes(expiration);
	}
	if (publish->outcome)
	{
		memset(&outcome, 0, sizeof(outcome));
		outcome.key = amqp_cstring_bytes("outcome");
		outcome.value.kind = AMQP_FIELD_KIND_UTF8;
		outcome.value.value.bytes = shortstr(publish->outcome);
		props._flags |= AMQP_BASIC_HEADERS_FLAG;
		props.headers.num_entries = 1;
		props.headers.entries = &outcome;
	}

	pi_put_u16(p + 7, AMQP_BASIC_CLASS);
	pi_put_u16(p + 9, 0);
	pi_put_u64(p + 11, publish->len);
	room.bytes = p + 19;
	room.len = HEAD_ROOM / 2;
	len = amqp_encode_properties(AMQP_BASIC_CLASS, &props, room);
	return len < 0 ? NULL : close_frame(p, AMQP_FRAME_HEADER, len + 12);
}

PiPublishStatus
pi_amqp_publish(PiAmqp *conn, const PiPublish *p, uint64 *seq)
{
	size_t		chunk = conn->frame_max - PI_FRAME_OVERHEAD;
	size_t		done;
	char	   *start;
	char	   *at;

	if (conn->dead)
		return PI_PUBLISH_DEAD;
	if (conn->blocked)
		return PI_PUBLISH_AGAIN;
	if (pi_amqp_unsent(conn) >= PI_OUTPUT_LIMIT)
	{
		if (!pi_amqp_write(conn))
			return PI_PUBLISH_DEAD;
		if (pi_amqp_unsent(conn) >= PI_OUTPUT_LIMIT)
			return PI_PUBLISH_AGAIN;
	}

	start = pi_amqp_reserve(conn, 2 * HEAD_ROOM + p->len +
							(p->len / chunk + 1) * PI_FRAME_OVERHEAD);
	at = put_publish(conn, start, p);
	if (at)
		at = put_header(conn, at, p);
	if (at == NULL)
	{
		pi_amqp_fail(conn, PI_AMQP_PROTOCOL, 0, "could not write basic.publish");
		return PI_PUBLISH_DEAD;
	}
	for (done = 0; done < p->len;)
	{
		size_t		n = Min(p->len - done, chunk);

		memcpy(at + 7, p->body + done, n);
		at = close_frame(at, AMQP_FRAME_BODY, n);
		done += n;
	}
	conn->out_end += at - start;
	*seq = ++conn->publish_seq;

	/* dead or not, the message was handed over: its fate is unknown */
	if (pi_amqp_unsent(conn) >= PI_OUTPUT_EAGER && !pi_amqp_write(conn))
		return PI_PUBLISH_DEAD;
	return PI_PUBLISH_SENT;
}

bool
pi_amqp_flush(PiAmqp *conn, bool *pending)
{
	*pending = false;
	if (conn->dead || !pi_amqp_write(conn))
		return false;
	*pending = pi_amqp_unsent(conn) > 0;
	return true;
}

static bool
send_method(PiAmqp *conn, int channel, amqp_method_number_t method, void *args)
{
	return pi_amqp_put_method(conn, channel, method, args) &&
		pi_amqp_write(conn);
}

bool
pi_amqp_ack(PiAmqp *conn, uint64 tag, bool multiple)
{
	amqp_basic_ack_t args;

	if (conn->dead)
		return false;
	memset(&args, 0, sizeof(args));
	args.delivery_tag = tag;
	args.multiple = multiple;
	return pi_amqp_put_method(conn, PI_CHANNEL_WORK, AMQP_BASIC_ACK_METHOD,
							  &args);
}

bool
pi_amqp_nack_requeue(PiAmqp *conn, uint64 tag, bool multiple)
{
	amqp_basic_nack_t args;

	if (conn->dead)
		return false;
	memset(&args, 0, sizeof(args));
	args.delivery_tag = tag;
	args.multiple = multiple;
	args.requeue = 1;
	return send_method(conn, PI_CHANNEL_WORK, AMQP_BASIC_NACK_METHOD, &args);
}

bool
pi_amqp_probe(PiAmqp *conn, int prefetch)
{
	amqp_basic_qos_t args;

	if (conn->dead)
		return false;
	memset(&args, 0, sizeof(args));
	args.prefetch_count = prefetch;
	conn->prefetch = prefetch;
	conn->probes++;
	return send_method(conn, PI_CHANNEL_WORK, AMQP_BASIC_QOS_METHOD, &args);
}

bool
pi_amqp_queue_poll(PiAmqp *conn, const char *queue)
{
	amqp_queue_declare_t args;

	if (conn->dead)
		return false;
	memset(&args, 0, sizeof(args));
	args.queue = shortstr(queue);
	args.passive = 1;
	conn->polls++;
	return send_method(conn, PI_CHANNEL_QUEUES, AMQP_QUEUE_DECLARE_METHOD, &args);
}
