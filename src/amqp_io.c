/*-------------------------------------------------------------------------
 *
 * amqp_io.c
 *		Bytes and frames of a connection, and its heartbeats.
 *
 * NOTES
 *		Input and output have a buffer each, and every system call is one that
 *		cannot wait.  What the socket does not take stays in the output
 *		buffer, behind it whatever is sent later, so no frame is ever torn.
 *
 *		The peer counts as silent only when a read found nothing: as long as
 *		unread bytes wait for us, it is we who are late.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/socket.h>
#include <time.h>

#include "amqp_internal.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0			/* servers ignore SIGPIPE anyway */
#endif

/* More than any method we send: user and password are bounded. */
#define METHOD_ROOM 8192

/*
 * Milliseconds of a clock that nobody sets: a jump of the wall clock must not
 * look like two missed heartbeats.
 */
int64
pi_amqp_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- errors --------------------------------------------------------- */

/* One line of valid UTF-8, whatever the broker or the C library said. */
void
pi_amqp_clean_text(char *text)
{
	unsigned char *p = (unsigned char *) text;
	size_t		left = strlen(text);

	while (left > 0)
	{
		int			len = pg_utf_mblen(p);

		if (len > left || !pg_utf8_islegal(p, len))
		{
			*p = '?';
			len = 1;
		}
		else if (*p < 0x20 || *p == 0x7f)
			*p = ' ';
		p += len;
		left -= len;
	}
}

void
pi_amqp_set_error(PiAmqpError *error, PiAmqpErrorKind kind, int code,
				  const char *fmt,...)
{
	va_list		args;

	error->kind = kind;
	error->code = code;
	va_start(args, fmt);
	vsnprintf(error->text, sizeof(error->text), fmt, args);
	va_end(args);
	pi_amqp_clean_text(error->text);
}

/* The connection is dead.  The first reason is the one that counts. */
bool
pi_amqp_fail(PiAmqp *conn, PiAmqpErrorKind kind, int code, const char *fmt,...)
{
	va_list		args;

	if (conn->dead)
		return false;
	conn->dead = true;
	conn->error.kind = kind;
	conn->error.code = code;
	va_start(args, fmt);
	vsnprintf(conn->error.text, sizeof(conn->error.text), fmt, args);
	va_end(args);
	pi_amqp_clean_text(conn->error.text);
	return false;
}

/* The broker takes its leave: say so in turn, as far as that needs no wait. */
bool
pi_amqp_on_connection_close(PiAmqp *conn, const PiFrame *frame)
{
	amqp_connection_close_t *m = pi_amqp_decode(conn, frame);
	amqp_connection_close_ok_t ok;
	PiAmqpErrorKind kind = PI_AMQP_CLOSED;
	int			code;
	char		text[256];

	if (m == NULL)
		return false;
	code = m->reply_code;
	snprintf(text, sizeof(text), "%.*s",
			 (int) m->reply_text.len, (char *) m->reply_text.bytes);

	/* before anything that may replace the reason by a lesser one */
	if (code >= AMQP_FRAME_ERROR && code <= AMQP_UNEXPECTED_FRAME)
		kind = PI_AMQP_PROTOCOL;
	pi_amqp_fail(conn, kind, code, "broker closed the connection: %s", text);

	memset(&ok, 0, sizeof(ok));
	if (pi_amqp_put_method(conn, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok))
		(void) pi_amqp_write(conn);
	return false;
}

/*
 * The connection broke.  Often the broker has said why just before, and that
 * is still in the buffer.
 */
bool
pi_amqp_conclude(PiAmqp *conn)
{
	PiFrame		frame;

	while (!conn->dead && pi_amqp_take_frame(conn, &frame) == 1)
	{
		if (frame.channel == 0 &&
			frame.method == AMQP_CONNECTION_CLOSE_METHOD)
			return pi_amqp_on_connection_close(conn, &frame);
	}
	return pi_amqp_fail(conn, conn->in_kind, 0, "%s", conn->in_why);
}

/* ---- input ---------------------------------------------------------- */

/* errnum 0: the peer closed in an orderly way */
static void
input_closed(PiAmqp *conn, int errnum)
{
	if (conn->in_closed)
		return;
	conn->in_closed = true;
	conn->in_kind = PI_AMQP_NETWORK;
	if (errnum == 0)
	{
		int64		silent = pi_amqp_now() - conn->last_sent;

		if (conn->open && conn->heartbeat > 0 &&
			silent > conn->heartbeat * 2000)
			snprintf(conn->in_why, sizeof(conn->in_why),
					 "broker closed the connection after no sign of life from us for %d s",
					 (int) (silent / 1000));
		else
			strlcpy(conn->in_why, "broker closed the connection",
					sizeof(conn->in_why));
	}
	else if (conn->tls && errnum == EPROTO)
	{
		conn->in_kind = PI_AMQP_TLS;
		snprintf(conn->in_why, sizeof(conn->in_why), "TLS failure: %s",
				 pi_tls_why(conn->tls));
	}
	else
		snprintf(conn->in_why, sizeof(conn->in_why),
				 "connection to the broker lost: %s", strerror(errnum));
}

int
pi_amqp_fill(PiAmqp *conn)
{
	size_t		room;
	ssize_t		n;

	if (conn->dead || conn->in_closed)
		return -1;

	if (conn->in_start == conn->in_end)
		conn->in_start = conn->in_end = 0;
	else if (conn->in_start > 0 && PI_INPUT_SIZE - conn->in_end < PI_FRAME_MAX / 2)
	{
		memmove(conn->in, conn->in + conn->in_start,
				conn->in_end - conn->in_start);
		conn->in_end -= conn->in_start;
		conn->in_start = 0;
	}
	room = PI_INPUT_SIZE - conn->in_end;
	if (room == 0)
		return 2;
	if (conn->in_short)
	{
		/* only right after it: silence has to be heard, not remembered */
		conn->in_short = false;
		if (pi_amqp_now() - conn->last_recv < 500)
			return 0;
	}

	do
	{
		if (conn->tls)
			n = pi_tls_recv(conn->tls, conn->in + conn->in_end, room);
		else
			n = recv(conn->fd, conn->in + conn->in_end, room, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);

	if (n > 0)
	{
		/*
		 * A read that did not fill the buffer emptied the socket.  What comes
		 * later wakes up whoever sleeps on it, so there is no need to ask
		 * again just to hear that nothing is there.
		 */
		conn->in_short = conn->tls == NULL && (size_t) n < room;
		conn->in_end += n;
		conn->last_recv = pi_amqp_now();
		return 1;
	}
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	input_closed(conn, n == 0 ? 0 : errno);
	return -1;
}

/* Looks at the bytes of one frame: as pi_amqp_take_frame(). */
static int
parse_frame(PiAmqp *conn, const uint8 *p, size_t avail, PiFrame *frame,
			size_t *used)
{
	uint32		min = 0;

	if (avail < 1)
		return 0;
	switch (p[0])
	{
		case AMQP_FRAME_METHOD:
			min = 4;
			break;
		case AMQP_FRAME_HEADER:
			min = 14;
			break;
		case AMQP_FRAME_BODY:
		case AMQP_FRAME_HEARTBEAT:
			break;
		default:
			if (conn->open)
				pi_amqp_fail(conn, PI_AMQP_PROTOCOL, 0,
							 "broker sent a frame of unknown type %d", p[0]);
			else if (p[0] == 'A')
				pi_amqp_fail(conn, PI_AMQP_PROTOCOL, 0,
							 "peer does not speak AMQP 0-9-1");
			else if (p[0] == 0x15)
				pi_amqp_fail(conn, PI_AMQP_PROTOCOL, 0,
							 "peer does not speak AMQP, but probably TLS (amqps)");
			else
				pi_amqp_fail(conn, PI_AMQP_PROTOCOL, 0,
							 "peer does not speak AMQP");
			return -1;
	}
	if (avail < 7)
		return 0;

	frame->type = p[0];
	frame->channel = pi_get_u16(p + 1);
	frame->len = pi_get_u32(p + 3);
	if (frame->len < min || frame->len > conn->frame_max - PI_FRAME_OVERHEAD)
	{
		pi_amqp_fail(conn, PI_AMQP_PROTOCOL, 0,
					 "broker sent a frame of %u bytes", frame->len);
		return -1;
	}
	if (avail < (size_t) frame->len + PI_FRAME_OVERHEAD)
		return 0;
	if (p[7 + frame->len] != AMQP_FRAME_END)
	{
		pi_amqp_fail(conn, PI_AMQP_PROTOCOL, 0,
					 "broker sent a frame without an end");
		return -1;
	}
	*used = (size_t) frame->len + PI_FRAME_OVERHEAD;
	frame->payload = p + 7;
	frame->method = 0;
	if (frame->type == AMQP_FRAME_METHOD)
	{
		frame->method = pi_get_u32(p + 7);
		frame->payload += 4;
		frame->len -= 4;
	}
	return 1;
}

int
pi_amqp_take_frame(PiAmqp *conn, PiFrame *frame)
{
	size_t		used;
	int			r;

	if (conn->dead)
		return -1;
	r = parse_frame(conn, (uint8 *) conn->in + conn->in_start,
					conn->in_end - conn->in_start, frame, &used);
	if (r == 1)
		conn->in_start += used;
	return r;
}

/* The same from what was put aside, which came before what is in the buffer. */
int
pi_amqp_take_stashed(PiAmqp *conn, PiFrame *frame)
{
	size_t		used;
	int			r;

	if (conn->stash.cursor >= conn->stash.len)
	{
		/* give back what a burst needed */
		if (conn->stash.maxlen > PI_INPUT_SIZE)
		{
			pfree(conn->stash.data);
			conn->stash.data = NULL;
		}
		if (conn->stash.data)
			resetStringInfo(&conn->stash);
		else
			memset(&conn->stash, 0, sizeof(conn->stash));
		return 0;
	}
	r = parse_frame(conn, (uint8 *) conn->stash.data + conn->stash.cursor,
					conn->stash.len - conn->stash.cursor, frame, &used);
	if (r == 1)
		conn->stash.cursor += used;
	return r;
}

bool
pi_amqp_stash(PiAmqp *conn, const PiFrame *frame)
{
	int			extra = frame->type == AMQP_FRAME_METHOD ? 4 : 0;
	int			len = frame->len + extra + PI_FRAME_OVERHEAD;

	if (conn->stash.len > PI_STASH_LIMIT)
		return pi_amqp_fail(conn, PI_AMQP_PROTOCOL, 0,
							"broker sent too much instead of an answer");
	if (conn->stash.data == NULL)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(conn->context);

		initStringInfo(&conn->stash);
		MemoryContextSwitchTo(oldcontext);
	}
	appendBinaryStringInfo(&conn->stash,
						   (const char *) frame->payload - extra - 7, len);
	return true;
}

/*
 * The arguments of a method, valid until the next one is decoded.  Only for
 * methods whose shape we know: unknown ones may hold tables, and those are
 * read by recursion.
 */
void *
pi_amqp_decode(PiAmqp *conn, const PiFrame *frame)
{
	amqp_bytes_t encoded;
	void	   *decoded = NULL;
	int			res;

	recycle_amqp_pool(&conn->pool);
	encoded.bytes = unconstify(uint8 *, frame->payload);
	encoded.len = frame->len;
	res = amqp_decode_method(frame->method, &conn->pool, encoded, &decoded);
	if (res < 0 || decoded == NULL)
	{
		const char *name = amqp_method_name(frame->method);

		pi_amqp_fail(conn, PI_AMQP_PROTOCOL, 0,
					 "could not read %s: %s", name ? name : "a method",
					 amqp_error_string2(res));
		return NULL;
	}
	return decoded;
}

/* ---- output --------------------------------------------------------- */

/* Room for len more bytes at out + out_end. */
char *
pi_amqp_reserve(PiAmqp *conn, size_t len)
{
	if (conn->out_start == conn->out_end)
		conn->out_start = conn->out_end = 0;
	if (conn->out_size - conn->out_end < len && conn->out_start > 0)
	{
		memmove(conn->out, conn->out + conn->out_start, pi_amqp_unsent(conn));
		conn->out_end -= conn->out_start;
		conn->out_start = 0;
	}
	if (conn->out_size - conn->out_end < len)
	{
		size_t		size = Max(conn->out_size * 2, conn->out_end + len);

		conn->out = repalloc_huge(conn->out, size);
		conn->out_size = size;
	}
	return conn->out + conn->out_end;
}

bool
pi_amqp_put_method(PiAmqp *conn, int channel, amqp_method_number_t method,
				   void *args)
{
	char	   *p = pi_amqp_reserve(conn, METHOD_ROOM);
	amqp_bytes_t encoded;
	int			res;

	encoded.bytes = p + 11;
	encoded.len = METHOD_ROOM - 12;
	res = amqp_encode_method(method, args, encoded);
	if (res < 0)
		return pi_amqp_fail(conn, PI_AMQP_PROTOCOL, 0, "could not write %s: %s",
							amqp_method_name(method), amqp_error_string2(res));
	p[0] = AMQP_FRAME_METHOD;
	pi_put_u16(p + 1, channel);
	pi_put_u32(p + 3, res + 4);
	pi_put_u32(p + 7, method);
	p[11 + res] = (char) AMQP_FRAME_END;
	conn->out_end += res + 12;
	return true;
}

/*
 * Writes what the socket takes; the rest stays.  Also used on a connection
 * that was just declared dead, for its last words.
 */
bool
pi_amqp_write(PiAmqp *conn)
{
	bool		progress = false;

	while (pi_amqp_unsent(conn) > 0)
	{
		ssize_t		n;

		if (conn->tls)
			n = pi_tls_send(conn->tls, conn->out + conn->out_start,
							pi_amqp_unsent(conn));
		else
			n = send(conn->fd, conn->out + conn->out_start,
					 pi_amqp_unsent(conn), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0)
		{
			conn->out_start += n;
			progress = true;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;

		/* broken; what the broker said before may still be there */
		if (!conn->dead)
		{
			int			errnum = errno;

			conn->in_short = false;
			while (pi_amqp_fill(conn) == 1)
				conn->in_short = false;
			input_closed(conn, errnum);
		}
		return pi_amqp_conclude(conn);
	}

	if (progress)
		conn->last_sent = pi_amqp_now();
	if (pi_amqp_unsent(conn) == 0)
	{
		conn->out_start = conn->out_end = 0;
		if (conn->out_size > 2 * PI_OUTPUT_LIMIT)
		{
			pfree(conn->out);
			conn->out_size = PI_OUTPUT_EAGER;
			conn->out = MemoryContextAlloc(conn->context, conn->out_size);
		}
	}
	return !conn->dead;
}

/* ---- heartbeats and waiting ----------------------------------------- */

/* When something has to be done about heartbeats; 0 never. */
int64
pi_amqp_due(const PiAmqp *conn)
{
	int64		recv_due = conn->last_recv + conn->heartbeat * 2000 + 1;

	if (conn->heartbeat == 0 || !conn->open)
		return 0;
	if (pi_amqp_unsent(conn) > 0)
		return recv_due;
	return Min(recv_due, conn->last_sent + conn->heartbeat * 500);
}

/* drained: a read has just found nothing. */
bool
pi_amqp_heartbeats(PiAmqp *conn, bool drained)
{
	int64		now;

	if (conn->dead)
		return false;
	if (pi_amqp_unsent(conn) > 0 && !pi_amqp_write(conn))
		return false;
	if (conn->heartbeat == 0 || !conn->open)
		return true;
	now = pi_amqp_now();
	if (drained && now - conn->last_recv > conn->heartbeat * 2000)
		return pi_amqp_fail(conn, PI_AMQP_HEARTBEAT, 0,
							"no sign of life from the broker for %d s",
							(int) ((now - conn->last_recv) / 1000));

	/* unsent bytes will do as well, as soon as the socket takes them */
	if (now - conn->last_sent >= conn->heartbeat * 500 &&
		pi_amqp_unsent(conn) == 0)
	{
		char	   *p = pi_amqp_reserve(conn, PI_FRAME_OVERHEAD);

		memset(p, 0, PI_FRAME_OVERHEAD);
		p[0] = AMQP_FRAME_HEARTBEAT;
		p[7] = (char) AMQP_FRAME_END;
		conn->out_end += PI_FRAME_OVERHEAD;
		return pi_amqp_write(conn);
	}
	return true;
}

/*
 * Waits for the socket, the latch, the next heartbeat or the deadline; false
 * when the deadline has passed, or a reload may have made a connection that
 * is being opened pointless.
 */
bool
pi_amqp_wait_io(PiAmqp *conn, int events, int64 deadline)
{
	int64		now = pi_amqp_now();
	int64		due = pi_amqp_due(conn);
	int64		until = deadline;
	int			rc;

	if (now >= deadline ||
		(conn->yields && !conn->open && ConfigReloadPending))
		return false;
	if (due > 0)
		until = Max(Min(until, due), now + 1);

	rc = WaitLatchOrSocket(MyLatch,
						   events | WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						   conn->fd, (long) (until - now), PG_WAIT_EXTENSION);
	if (rc & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return true;
}

/* Waits for a frame; those put aside are not looked at. */
bool
pi_amqp_wait_frame(PiAmqp *conn, int64 deadline, PiFrame *frame)
{
	for (;;)
	{
		int			r = pi_amqp_take_frame(conn, frame);
		int			events = WL_SOCKET_READABLE;

		if (r != 0)
			return r > 0;
		r = pi_amqp_fill(conn);
		if (r < 0)
			return pi_amqp_conclude(conn);
		if (r > 0)
			continue;
		if (!pi_amqp_heartbeats(conn, true))
			return false;
		if (pi_amqp_unsent(conn) > 0)
			events |= WL_SOCKET_WRITEABLE;
		if (!pi_amqp_wait_io(conn, events, deadline))
			return pi_amqp_fail(conn, PI_AMQP_NETWORK, 0,
								"timeout while waiting for an answer of the broker");
	}
}
