/*-------------------------------------------------------------------------
 *
 * amqp.c
 *		What happens on a connection: frames in, events out.
 *
 * NOTES
 *		Deliveries are assembled here, frame by frame.  What a sender announces
 *		is never allocated in advance, and of a body that is too large only
 *		the first max_body bytes are kept, while the rest passes by.  The
 *		digest is that of the whole body: a message that comes again when
 *		another limit is set has to be recognised.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "amqp_internal.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

/* ---- properties of a connection ------------------------------------- */

int
pi_amqp_socket(const PiAmqp *conn)
{
	return conn->fd;
}

const PiAmqpError *
pi_amqp_error(const PiAmqp *conn)
{
	return &conn->error;
}

int
pi_amqp_heartbeat(const PiAmqp *conn)
{
	return conn->heartbeat;
}

const char *
pi_amqp_cluster_name(const PiAmqp *conn)
{
	return conn->cluster_name;
}

bool
pi_amqp_blocked(const PiAmqp *conn)
{
	return conn->blocked;
}

/* ---- content -------------------------------------------------------- */

static PiAmqpEventType
unexpected(PiAmqp *conn, const char *what)
{
	pi_amqp_fail(conn, PI_AMQP_PROTOCOL, AMQP_UNEXPECTED_FRAME,
				 "broker sent an unexpected %s frame", what);
	return PI_EVENT_FAILED;
}

static PiSha256 *
begin_digest(uint64 size)
{
	PiSha256   *ctx = pi_sha256_begin();
	uint8		head[9];

	head[0] = 'b';
	for (int i = 0; i < 8; i++)
		head[1 + i] = (uint8) (size >> (8 * i));
	pi_sha256_add(ctx, head, sizeof(head));
	return ctx;
}

/* The same for a body that is not kept; it outlives transactions. */
static PiSha256 *
begin_lasting_digest(PiAmqp *conn, uint64 size)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(conn->context);
	ResourceOwner oldowner = CurrentResourceOwner;
	PiSha256   *ctx;

	CurrentResourceOwner = NULL;
	ctx = begin_digest(size);
	CurrentResourceOwner = oldowner;
	MemoryContextSwitchTo(oldcontext);
	return ctx;
}

void
pi_amqp_drop_digest(PiAmqp *conn)
{
	uint8		digest[PI_SHA256_LEN];

	if (conn->content_digest != NULL)
		pi_sha256_end(conn->content_digest, digest);
	conn->content_digest = NULL;
}

static void
begin_content(PiAmqp *conn, PiContent content)
{
	pi_amqp_drop_digest(conn);
	conn->content = content;
	conn->content_header = false;
	conn->content_left = 0;
	resetStringInfo(&conn->header);

	/* an idle worker need not hold the largest body it has ever seen */
	if (conn->body.maxlen > PI_OUTPUT_LIMIT)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(conn->context);

		pfree(conn->body.data);
		initStringInfo(&conn->body);
		MemoryContextSwitchTo(oldcontext);
	}
	resetStringInfo(&conn->body);
}

/* All frames are there. */
static PiAmqpEventType
end_content(PiAmqp *conn, PiAmqpEvent *event)
{
	PiContent	content = conn->content;
	uint8	   *header = (uint8 *) conn->header.data;

	conn->content = PI_CONTENT_NONE;
	if (content == PI_CONTENT_RETURN)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(conn->scratch);
		PiAmqpProperties props;

		pi_amqp_parse_header(header, conn->header.len, &props);
		if (props.message_id)
			strlcpy(event->return_message_id, props.message_id,
					sizeof(event->return_message_id));
		if (props.correlation_id)
			strlcpy(event->return_correlation_id, props.correlation_id,
					sizeof(event->return_correlation_id));
		event->return_code = conn->return_code;
		strlcpy(event->return_text, conn->return_text,
				sizeof(event->return_text));
		MemoryContextSwitchTo(oldcontext);
		MemoryContextReset(conn->scratch);
		return PI_EVENT_RETURN;
	}

	/* it could not be acknowledged any more: it will come again */
	if (conn->in_closed)
		return PI_EVENT_NONE;

	if (conn->content_digest == NULL)
	{
		conn->content_digest = begin_digest(conn->content_delivery.size);
		pi_sha256_add(conn->content_digest, conn->body.data, conn->body.len);
	}
	pi_sha256_end(conn->content_digest, conn->content_delivery.digest);
	conn->content_digest = NULL;

	event->delivery = conn->content_delivery;
	event->delivery.len = conn->body.len;
	event->delivery.body = palloc(conn->body.len + 1);
	memcpy(event->delivery.body, conn->body.data, conn->body.len);
	event->delivery.body[conn->body.len] = '\0';
	pi_amqp_parse_header(header, conn->header.len, &event->delivery.props);
	return PI_EVENT_DELIVERY;
}

static PiAmqpEventType
on_header(PiAmqp *conn, const PiFrame *frame, size_t max_body, PiAmqpEvent *event)
{
	if (conn->content == PI_CONTENT_NONE || conn->content_header ||
		frame->channel != PI_CHANNEL_WORK)
		return unexpected(conn, "header");

	/* class, weight, size of the body; then the properties */
	conn->content_header = true;
	conn->content_left = pi_get_u64(frame->payload + 4);
	conn->content_delivery.size = conn->content_left;

	/* the limit may change before all of it is there */
	conn->content_max = max_body;
	if (conn->content == PI_CONTENT_DELIVERY && conn->content_left > max_body)
		conn->content_digest = begin_lasting_digest(conn, conn->content_left);
	appendBinaryStringInfo(&conn->header, (const char *) frame->payload + 12,
						   frame->len - 12);
	return conn->content_left == 0 ? end_content(conn, event) : PI_EVENT_NONE;
}

static PiAmqpEventType
on_body(PiAmqp *conn, const PiFrame *frame, PiAmqpEvent *event)
{
	if (conn->content == PI_CONTENT_NONE || !conn->content_header ||
		frame->channel != PI_CHANNEL_WORK || frame->len > conn->content_left)
		return unexpected(conn, "body");

	conn->content_left -= frame->len;
	if (conn->content_digest != NULL)
		pi_sha256_add(conn->content_digest, frame->payload, frame->len);
	if (conn->content == PI_CONTENT_DELIVERY &&
		conn->body.len < conn->content_max)
		appendBinaryStringInfo(&conn->body, (const char *) frame->payload,
							   (int) Min(frame->len,
										 conn->content_max - conn->body.len));
	return conn->content_left == 0 ? end_content(conn, event) : PI_EVENT_NONE;
}

/* ---- methods -------------------------------------------------------- */

static PiAmqpEventType
on_deliver(PiAmqp *conn, const PiFrame *frame)
{
	amqp_basic_deliver_t *m = pi_amqp_decode(conn, frame);

	if (m == NULL)
		return PI_EVENT_FAILED;
	begin_content(conn, PI_CONTENT_DELIVERY);
	memset(&conn->content_delivery, 0, sizeof(conn->content_delivery));
	conn->content_delivery.tag = m->delivery_tag;
	conn->content_delivery.redelivered = m->redelivered != 0;
	return PI_EVENT_NONE;
}

static PiAmqpEventType
on_return(PiAmqp *conn, const PiFrame *frame)
{
	amqp_basic_return_t *m = pi_amqp_decode(conn, frame);

	if (m == NULL)
		return PI_EVENT_FAILED;
	begin_content(conn, PI_CONTENT_RETURN);
	conn->return_code = m->reply_code;
	snprintf(conn->return_text, sizeof(conn->return_text), "%.*s",
			 (int) m->reply_text.len, (char *) m->reply_text.bytes);
	pi_amqp_clean_text(conn->return_text);
	return PI_EVENT_NONE;
}

static PiAmqpEventType
on_confirm(PiAmqp *conn, const PiFrame *frame, PiAmqpEvent *event)
{
	void	   *m = pi_amqp_decode(conn, frame);

	if (m == NULL)
		return PI_EVENT_FAILED;
	if (frame->method == AMQP_BASIC_NACK_METHOD)
	{
		event->confirm_seq = ((amqp_basic_nack_t *) m)->delivery_tag;
		event->confirm_multiple = ((amqp_basic_nack_t *) m)->multiple != 0;
		event->confirm_nack = true;
	}
	else
	{
		event->confirm_seq = ((amqp_basic_ack_t *) m)->delivery_tag;
		event->confirm_multiple = ((amqp_basic_ack_t *) m)->multiple != 0;
	}

	/* with multiple, 0 stands for everything so far */
	if (event->confirm_seq == 0 && event->confirm_multiple)
		event->confirm_seq = conn->publish_seq;
	return PI_EVENT_CONFIRM;
}

static PiAmqpEventType
on_cancel(PiAmqp *conn, const PiFrame *frame)
{
	amqp_basic_cancel_t *m = pi_amqp_decode(conn, frame);
	amqp_basic_cancel_ok_t ok;

	if (m == NULL)
		return PI_EVENT_FAILED;
	if (!m->nowait)
	{
		memset(&ok, 0, sizeof(ok));
		ok.consumer_tag = m->consumer_tag;
		if (!pi_amqp_put_method(conn, PI_CHANNEL_WORK,
								AMQP_BASIC_CANCEL_OK_METHOD, &ok) ||
			!pi_amqp_write(conn))
			return PI_EVENT_FAILED;
	}
	return PI_EVENT_CANCELLED;
}

static PiAmqpEventType
on_flow(PiAmqp *conn, const PiFrame *frame)
{
	amqp_channel_flow_t *m = pi_amqp_decode(conn, frame);
	amqp_channel_flow_ok_t ok;

	if (m == NULL)
		return PI_EVENT_FAILED;
	memset(&ok, 0, sizeof(ok));
	ok.active = m->active;
	if (!pi_amqp_put_method(conn, frame->channel, AMQP_CHANNEL_FLOW_OK_METHOD,
							&ok) ||
		!pi_amqp_write(conn))
		return PI_EVENT_FAILED;
	return PI_EVENT_NONE;
}

static PiAmqpEventType
on_queue_info(PiAmqp *conn, const PiFrame *frame, PiAmqpEvent *event)
{
	amqp_queue_declare_ok_t *m = pi_amqp_decode(conn, frame);

	if (m == NULL)
		return PI_EVENT_FAILED;
	event->queue.messages = m->message_count;
	event->queue.consumers = m->consumer_count;
	return PI_EVENT_QUEUE_INFO;
}

/* fresh: right from the socket, not from what a set-up call put aside. */
static PiAmqpEventType
on_method(PiAmqp *conn, const PiFrame *frame, bool fresh, PiAmqpEvent *event)
{
	PiAmqpError error;

	if (frame->channel == PI_CHANNEL_WORK && conn->content != PI_CONTENT_NONE &&
		frame->method != AMQP_CHANNEL_CLOSE_METHOD)
		return unexpected(conn, "method");

	switch (frame->method)
	{
		case AMQP_CONNECTION_CLOSE_METHOD:
			pi_amqp_on_connection_close(conn, frame);
			return PI_EVENT_FAILED;

		case AMQP_CONNECTION_BLOCKED_METHOD:
			conn->blocked = true;
			pi_amqp_set_user_timeout(conn->fd, 0);
			return PI_EVENT_BLOCKED;

		case AMQP_CONNECTION_UNBLOCKED_METHOD:
			conn->blocked = false;
			pi_amqp_set_user_timeout(conn->fd, conn->user_timeout);
			return PI_EVENT_UNBLOCKED;

		case AMQP_CHANNEL_CLOSE_METHOD:
			if (pi_amqp_on_channel_close(conn, frame, &error))
				pi_amqp_fail(conn, error.kind, error.code, "%s", error.text);
			return PI_EVENT_FAILED;

		case AMQP_CHANNEL_FLOW_METHOD:
			return on_flow(conn, frame);

		case AMQP_BASIC_DELIVER_METHOD:
			return on_deliver(conn, frame);

		case AMQP_BASIC_RETURN_METHOD:
			return on_return(conn, frame);

		case AMQP_BASIC_ACK_METHOD:
		case AMQP_BASIC_NACK_METHOD:
			return on_confirm(conn, frame, event);

		case AMQP_BASIC_CANCEL_METHOD:
			return on_cancel(conn, frame);

		case AMQP_BASIC_QOS_OK_METHOD:
			if (fresh)
				conn->probes--;
			return PI_EVENT_QOS_OK;

		case AMQP_QUEUE_DECLARE_OK_METHOD:
			if (fresh)
				conn->polls--;
			return on_queue_info(conn, frame, event);

		default:
			/* something newer that does not concern us */
			return PI_EVENT_NONE;
	}
}

static PiAmqpEventType
on_frame(PiAmqp *conn, const PiFrame *frame, bool fresh, size_t max_body,
		 PiAmqpEvent *event)
{
	switch (frame->type)
	{
		case AMQP_FRAME_METHOD:
			return on_method(conn, frame, fresh, event);
		case AMQP_FRAME_HEADER:
			return on_header(conn, frame, max_body, event);
		case AMQP_FRAME_BODY:
			return on_body(conn, frame, event);
		default:
			return PI_EVENT_NONE;
	}
}

/* ---- the pump ------------------------------------------------------- */

PiAmqpEventType
pi_amqp_next(PiAmqp *conn, size_t max_body, PiAmqpEvent *event)
{
	memset(event, 0, sizeof(*event));

	/* a StringInfo holds no more than this */
	max_body = Min(max_body, MaxAllocSize / 2);

	while (!conn->dead)
	{
		PiFrame		frame;
		bool		fresh = false;
		int			r;

		r = pi_amqp_take_stashed(conn, &frame);
		if (r == 0)
		{
			fresh = true;
			r = pi_amqp_take_frame(conn, &frame);
		}
		if (r > 0)
		{
			event->type = on_frame(conn, &frame, fresh, max_body, event);
			if (event->type != PI_EVENT_NONE && !conn->dead)
				return event->type;
			continue;
		}
		if (r < 0)
			break;

		r = pi_amqp_fill(conn);
		if (r < 0)
			pi_amqp_conclude(conn);
		else if (pi_amqp_heartbeats(conn, r == 0) && r == 0)
			return event->type = PI_EVENT_NONE;
	}
	return event->type = PI_EVENT_FAILED;
}

bool
pi_amqp_keepalive(PiAmqp *conn)
{
	int64		now;
	int			r;

	if (conn->dead)
		return false;
	if (conn->heartbeat == 0)
		return true;
	now = pi_amqp_now();
	if (now - conn->last_keepalive < conn->heartbeat * 250)
		return true;
	conn->last_keepalive = now;

	/* what does not fit into the buffer stays with the kernel */
	while ((r = pi_amqp_fill(conn)) == 1)
		;
	if (r < 0)
		return pi_amqp_conclude(conn);
	return pi_amqp_heartbeats(conn, r == 0);
}

bool
pi_amqp_alive(PiAmqp *conn)
{
	const uint8 *p;
	const uint8 *end;
	int			r;

	if (conn->dead)
		return false;

	/* what came since the last read counts, however short ago that was */
	conn->in_short = false;
	while ((r = pi_amqp_fill(conn)) == 1)
		;
	if (r < 0)
		return false;			/* pi_amqp_next() says of what */

	/* from frame to frame, as far as they are there */
	p = (const uint8 *) conn->in + conn->in_start;
	end = (const uint8 *) conn->in + conn->in_end;
	while (end - p >= 7)
	{
		uint32		len = pi_get_u32(p + 3);

		if (p[0] == AMQP_FRAME_METHOD && end - p >= 11)
		{
			uint32		method = pi_get_u32(p + 7);

			if (method == AMQP_CONNECTION_CLOSE_METHOD ||
				method == AMQP_CHANNEL_CLOSE_METHOD)
				return false;
		}
		if ((size_t) (end - p) < (size_t) len + PI_FRAME_OVERHEAD)
			break;
		p += (size_t) len + PI_FRAME_OVERHEAD;
	}
	return true;
}

TimestampTz
pi_amqp_keepalive_at(const PiAmqp *conn)
{
	int64		due = conn->dead ? 0 : pi_amqp_due(conn);

	if (due == 0)
		return 0;
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
									   Max(due - pi_amqp_now(), 0));
}
