/*-------------------------------------------------------------------------
 *
 * amqp_rpc.c
 *		Set-up of channels and queues: calls that wait for their answer.
 *
 * NOTES
 *		Queues are looked up on a channel of their own: a missing queue closes
 *		the channel it was asked for on, and with it a consumer, unacknowledged
 *		deliveries or confirm mode.
 *
 *		While a call waits, anything else may arrive.  It is put aside as it
 *		came, for pi_amqp_next().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "amqp_internal.h"
#include "miscadmin.h"

#define MAX_SHORTSTR 255

/* A broker with an alarm does not answer who has published. */
#define MAY_TIMEOUT 3000

PiAmqpErrorKind
pi_amqp_kind_of(int code)
{
	switch (code)
	{
		case AMQP_NOT_FOUND:
			return PI_AMQP_NOT_FOUND;
		case AMQP_PRECONDITION_FAILED:
			return PI_AMQP_PRECONDITION;
		case AMQP_ACCESS_REFUSED:
			return PI_AMQP_ACCESS;
		default:
			return PI_AMQP_CHANNEL;
	}
}

/* The broker closes a channel: notes why, and agrees. */
bool
pi_amqp_on_channel_close(PiAmqp *conn, const PiFrame *frame, PiAmqpError *error)
{
	amqp_channel_close_t *m = pi_amqp_decode(conn, frame);
	amqp_channel_close_ok_t ok;
	int			channel = frame->channel;

	if (m == NULL)
		return false;
	pi_amqp_set_error(error, pi_amqp_kind_of(m->reply_code), m->reply_code,
					  "%.*s", (int) Min(m->reply_text.len, MAX_SHORTSTR),
					  (char *) m->reply_text.bytes);
	memset(&ok, 0, sizeof(ok));
	return pi_amqp_put_method(conn, channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok) &&
		pi_amqp_write(conn);
}

/*
 * Sends a method and waits for its answer.  false: the connection is dead,
 * or the broker closed the channel and *refused says why.  outstanding counts
 * answers of the same kind that have to come first.
 */
static bool
call(PiAmqp *conn, int channel, amqp_method_number_t method, void *args,
	 amqp_method_number_t answer, int *outstanding, int64 deadline,
	 PiFrame *frame, PiAmqpError *refused)
{
	if (!pi_amqp_put_method(conn, channel, method, args) || !pi_amqp_write(conn))
		return false;

	for (;;)
	{
		if (!pi_amqp_wait_frame(conn, deadline, frame))
			return false;
		if (frame->type == AMQP_FRAME_HEARTBEAT)
			continue;
		if (frame->channel == channel && frame->method == answer)
		{
			if (outstanding == NULL || *outstanding == 0)
				return true;
			(*outstanding)--;
		}
		else if (frame->channel == 0 &&
				 frame->method == AMQP_CONNECTION_CLOSE_METHOD)
			return pi_amqp_on_connection_close(conn, frame);
		else if (frame->method == AMQP_CHANNEL_CLOSE_METHOD)
		{
			PiAmqpError error;

			/* a refusal that may be meant for another request is not ours */
			if (frame->channel == channel &&
				(outstanding == NULL || *outstanding == 0))
			{
				pi_amqp_on_channel_close(conn, frame, refused);
				return false;
			}
			if (pi_amqp_on_channel_close(conn, frame, &error))
				pi_amqp_fail(conn, error.kind, error.code, "%s", error.text);
			return false;
		}
		if (!pi_amqp_stash(conn, frame))
			return false;
	}
}

bool
pi_amqp_open_channel(PiAmqp *conn, int channel, int64 deadline)
{
	amqp_channel_open_t args;
	PiAmqpError refused;
	PiFrame		frame;

	memset(&args, 0, sizeof(args));
	memset(&refused, 0, sizeof(refused));
	if (call(conn, channel, AMQP_CHANNEL_OPEN_METHOD, &args,
			 AMQP_CHANNEL_OPEN_OK_METHOD, NULL, deadline, &frame, &refused))
		return true;
	return pi_amqp_fail(conn, PI_AMQP_CHANNEL, refused.code,
						"could not open a channel: %s", refused.text);
}

static bool
send_qos(PiAmqp *conn, int prefetch, int64 deadline, PiAmqpError *refused)
{
	amqp_basic_qos_t args;
	PiFrame		frame;

	memset(&args, 0, sizeof(args));
	args.prefetch_count = prefetch;
	return call(conn, PI_CHANNEL_WORK, AMQP_BASIC_QOS_METHOD, &args,
				AMQP_BASIC_QOS_OK_METHOD, &conn->probes, deadline, &frame, refused);
}

/*
 * call() with the usual deadline.  After a refusal the channel is opened
 * anew, as it was, and conn->error says what the broker said.
 */
static bool
set_up(PiAmqp *conn, int channel, amqp_method_number_t method, void *args,
	   amqp_method_number_t answer, int *outstanding, PiFrame *frame)
{
	int64		deadline = pi_amqp_now() + conn->rpc_timeout;
	PiAmqpError refused;

	memset(&conn->error, 0, sizeof(conn->error));
	memset(&refused, 0, sizeof(refused));
	if (call(conn, channel, method, args, answer, outstanding, deadline, frame,
			 &refused))
		return true;
	if (conn->dead)
		return false;

	if (channel == PI_CHANNEL_WORK)
	{
		/* confirms that were to come on it will not come any more */
		if (conn->confirms)
			return pi_amqp_fail(conn, refused.kind, refused.code, "%s",
								refused.text);
		/* nor may deliveries of the closed channel be acknowledged */
		if (conn->stash.data)
			resetStringInfo(&conn->stash);
		conn->content = PI_CONTENT_NONE;
		conn->probes = 0;
	}
	deadline = pi_amqp_now() + conn->rpc_timeout;
	if (!pi_amqp_open_channel(conn, channel, deadline))
		return false;
	if (channel == PI_CHANNEL_WORK && conn->prefetch > 0)
	{
		PiAmqpError ignored;

		if (!send_qos(conn, conn->prefetch, deadline, &ignored))
			return pi_amqp_fail(conn, PI_AMQP_CHANNEL, 0,
								"could not set the prefetch count again");
	}
	conn->error = refused;
	return false;
}

/* Longer names cannot be said in AMQP, so such a queue cannot exist. */
static bool
check_name(PiAmqp *conn, const char *queue)
{
	if (conn->dead)
		return false;
	if (strlen(queue) <= MAX_SHORTSTR)
		return true;
	pi_amqp_set_error(&conn->error, PI_AMQP_NOT_FOUND, 0,
					  "queue name is longer than %d bytes", MAX_SHORTSTR);
	return false;
}

static bool
declare(PiAmqp *conn, amqp_queue_declare_t *args, PiQueueInfo *info)
{
	amqp_queue_declare_ok_t *m;
	PiFrame		frame;

	if (!set_up(conn, PI_CHANNEL_QUEUES, AMQP_QUEUE_DECLARE_METHOD, args,
				AMQP_QUEUE_DECLARE_OK_METHOD, &conn->polls, &frame))
		return false;
	m = pi_amqp_decode(conn, &frame);
	if (m == NULL)
		return false;
	if (info)
	{
		info->messages = m->message_count;
		info->consumers = m->consumer_count;
	}
	return true;
}

bool
pi_amqp_queue_lookup(PiAmqp *conn, const char *queue, PiQueueInfo *info)
{
	amqp_queue_declare_t args;

	if (!check_name(conn, queue))
		return false;
	memset(&args, 0, sizeof(args));
	args.queue = amqp_cstring_bytes(queue);
	args.passive = 1;
	return declare(conn, &args, info);
}

bool
pi_amqp_queue_declare(PiAmqp *conn, const char *queue, const char *type,
					  int64 ttl_ms, PiQueueInfo *info)
{
	amqp_queue_declare_t args;
	amqp_table_entry_t entries[2];
	int			n = 0;

	if (!check_name(conn, queue))
		return false;
	memset(&args, 0, sizeof(args));
	memset(entries, 0, sizeof(entries));

	/* said also for classic: a virtual host may have another default */
	entries[n].key = amqp_cstring_bytes("x-queue-type");
	entries[n].value.kind = AMQP_FIELD_KIND_UTF8;
	entries[n++].value.value.bytes = amqp_cstring_bytes(type);
	if (ttl_ms > 0)
	{
		entries[n].key = amqp_cstring_bytes("x-message-ttl");
		entries[n].value.kind = AMQP_FIELD_KIND_I64;
		entries[n++].value.value.i64 = ttl_ms;
	}
	args.queue = amqp_cstring_bytes(queue);
	args.durable = 1;
	args.arguments.num_entries = n;
	args.arguments.entries = entries;
	return declare(conn, &args, info);
}

bool
pi_amqp_qos(PiAmqp *conn, int prefetch)
{
	amqp_basic_qos_t args;
	PiFrame		frame;

	if (conn->dead)
		return false;
	memset(&args, 0, sizeof(args));
	args.prefetch_count = prefetch;
	if (!set_up(conn, PI_CHANNEL_WORK, AMQP_BASIC_QOS_METHOD, &args,
				AMQP_BASIC_QOS_OK_METHOD, &conn->probes, &frame))
		return false;
	conn->prefetch = prefetch;
	return true;
}

bool
pi_amqp_consume(PiAmqp *conn, const char *queue, const char *consumer_tag)
{
	amqp_basic_consume_t args;
	PiFrame		frame;

	if (!check_name(conn, queue))
		return false;
	Assert(strlen(consumer_tag) <= MAX_SHORTSTR);
	memset(&args, 0, sizeof(args));
	args.queue = amqp_cstring_bytes(queue);
	args.consumer_tag = amqp_cstring_bytes(consumer_tag);
	return set_up(conn, PI_CHANNEL_WORK, AMQP_BASIC_CONSUME_METHOD, &args,
				  AMQP_BASIC_CONSUME_OK_METHOD, NULL, &frame);
}

bool
pi_amqp_confirm_select(PiAmqp *conn)
{
	amqp_confirm_select_t args;
	PiFrame		frame;

	if (conn->dead)
		return false;
	memset(&args, 0, sizeof(args));
	if (!set_up(conn, PI_CHANNEL_WORK, AMQP_CONFIRM_SELECT_METHOD, &args,
				AMQP_CONFIRM_SELECT_OK_METHOD, NULL, &frame))
		return false;
	conn->confirms = true;
	conn->publish_seq = 0;
	return true;
}

/* ---- permissions ---------------------------------------------------- */

/*
 * RabbitMQ looks at the permission first, then at the arguments.  These two
 * have one that no broker takes, so neither a queue nor a consumer is made.
 */
static bool
try_to_declare(PiAmqp *conn, const char *queue)
{
	amqp_queue_declare_t args;
	amqp_table_entry_t entry;

	memset(&args, 0, sizeof(args));
	memset(&entry, 0, sizeof(entry));
	entry.key = amqp_cstring_bytes("x-message-ttl");
	entry.value.kind = AMQP_FIELD_KIND_I64;
	entry.value.value.i64 = -1;
	args.queue = amqp_cstring_bytes(queue);
	args.durable = 1;
	args.arguments.num_entries = 1;
	args.arguments.entries = &entry;
	return declare(conn, &args, NULL);
}

static bool
try_to_consume(PiAmqp *conn, const char *queue)
{
	amqp_basic_consume_t args;
	amqp_table_entry_t entry;
	PiFrame		frame;

	memset(&args, 0, sizeof(args));
	memset(&entry, 0, sizeof(entry));
	entry.key = amqp_cstring_bytes("x-priority");
	entry.value.kind = AMQP_FIELD_KIND_UTF8;
	entry.value.value.bytes = amqp_cstring_bytes("none");
	args.queue = amqp_cstring_bytes(queue);
	args.arguments.num_entries = 1;
	args.arguments.entries = &entry;
	return set_up(conn, PI_CHANNEL_WORK, AMQP_BASIC_CONSUME_METHOD, &args,
				  AMQP_BASIC_CONSUME_OK_METHOD, NULL, &frame);
}

/* To no queue: it comes back.  The next answer tells whether it was taken. */
static bool
try_to_publish(PiAmqp *conn)
{
	PiPublish	message;
	char		nowhere[64];
	uint64		seq;

	memset(&message, 0, sizeof(message));
	snprintf(nowhere, sizeof(nowhere), "profimport check %d " INT64_FORMAT " to nowhere",
			 MyProcPid, pi_amqp_now());
	message.queue = nowhere;
	message.body = "";
	if (pi_amqp_publish(conn, &message, &seq) != PI_PUBLISH_SENT)
		return false;
	return pi_amqp_qos(conn, 1);
}

bool
pi_amqp_may(PiAmqp *conn, PiPermission permission, const char *queue)
{
	if (!check_name(conn, queue))
		return true;
	conn->rpc_timeout = Min(conn->rpc_timeout, MAY_TIMEOUT);
	memset(&conn->error, 0, sizeof(conn->error));
	switch (permission)
	{
		case PI_MAY_CONFIGURE:
			(void) try_to_declare(conn, queue);
			break;
		case PI_MAY_WRITE:
			(void) try_to_publish(conn);
			break;
		case PI_MAY_READ:
			(void) try_to_consume(conn, queue);
			break;
	}
	return conn->error.kind != PI_AMQP_ACCESS;
}
