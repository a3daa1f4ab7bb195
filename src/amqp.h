/*-------------------------------------------------------------------------
 *
 * amqp.h
 *		The transport: one AMQP 0-9-1 connection.
 *
 * The amqp*.c files are the only ones that include rabbitmq-c.  They know no
 * SQL and nothing of profiles.  Two rules hold for every function:
 *
 * - no call blocks except those that say "waits".  Those wait on MyLatch and
 *   the socket with a deadline and run CHECK_FOR_INTERRUPTS() (so they may
 *   throw: on SIGTERM in a worker, on a cancel in a backend; a PiAmqp is
 *   freed by pi_amqp_close() or at process exit, never by a memory context,
 *   so a caller that can survive the error closes it in PG_CATCH).
 * - trouble with the broker is a return value, never ereport(ERROR).  After
 *   a failure that says the connection is dead, only pi_amqp_error() and
 *   pi_amqp_close() may be called.
 *
 *-------------------------------------------------------------------------
 */

/*
 * rabbitmq-c before 0.12 has an amqp.h as well.  If src/ is on the include
 * path, <amqp.h> finds this file first and is passed on to the right one.
 */
#ifdef PI_AMQP_PASS_ON
#include_next <amqp.h>
#elif !defined(PI_AMQP_H)
#define PI_AMQP_H

#include "datatype/timestamp.h"

typedef struct PiAmqp PiAmqp;

typedef enum PiAmqpErrorKind
{
	PI_AMQP_NONE,
	PI_AMQP_BAD_URL,
	PI_AMQP_NETWORK,			/* resolve, connect, reset, timeout */
	PI_AMQP_TLS,				/* handshake or certificate refused */
	PI_AMQP_LOGIN,				/* access refused at login */
	PI_AMQP_VHOST,				/* virtual host missing or not open to us */
	PI_AMQP_NOT_FOUND,			/* 404 on the channel */
	PI_AMQP_PRECONDITION,		/* 406 on the channel */
	PI_AMQP_ACCESS,				/* 403 on the channel */
	PI_AMQP_CHANNEL,			/* any other channel close by the broker */
	PI_AMQP_CLOSED,				/* connection.close by the broker */
	PI_AMQP_HEARTBEAT,			/* peer silent for two intervals */
	PI_AMQP_PROTOCOL			/* library or protocol error */
} PiAmqpErrorKind;

typedef struct PiAmqpError
{
	PiAmqpErrorKind kind;
	int			code;			/* AMQP reply code, 0 if none; of a refused
								 * certificate OpenSSL's X509_V_ERR_... */
	char		text[512];		/* one line, no password */
} PiAmqpError;

typedef struct PiAmqpTarget
{
	bool		tls;
	char		host[256];
	int			port;
	char		vhost[256];
	char		user[256];
	char		password[1024];
} PiAmqpTarget;

typedef struct PiAmqpOptions
{
	const char *tls_ca_file;	/* "" : the system's */
	const char *tls_cert_file;
	const char *tls_key_file;
	bool		tls_verify;
	int			heartbeat;		/* seconds asked for, 0 none */
	int			connect_timeout;	/* ms, for the whole of open */
	bool		yield_to_reload;	/* give up when settings are to be read */
	const char *connection_name;	/* shown by the broker's tools */
} PiAmqpOptions;

/*
 * Parses one amqp:// or amqps:// URL (user, password and virtual host percent
 * decoded; IPv6 host in brackets; no path or "/" is virtual host "/"; no
 * query part).  False with *why set to a palloc'd sentence without password.
 */
extern bool pi_amqp_parse_url(const char *url, PiAmqpTarget *target, char **why);

/* "amqp://user@host:port/vhost" for views and logs: never the password. */
extern void pi_amqp_describe(const PiAmqpTarget *target, char *buf, size_t buflen);

/*
 * Waits.  TCP connect, TLS, login (capabilities announced: consumer cancel,
 * connection.blocked, confirms, basic.nack, authentication_failure_close),
 * channels.  NULL with *error filled on failure.  Nothing in it holds up an
 * interrupt, but name resolution where the C library has no asynchronous one
 * (glibc has since 2.34).
 */
extern PiAmqp *pi_amqp_open(const PiAmqpTarget *target, const PiAmqpOptions *options,
							PiAmqpError *error);

/*
 * Closes politely if that needs no waiting (connection.close is sent, the
 * answer not awaited for more than ~100 ms), then frees.  NULL is fine.
 */
extern void pi_amqp_close(PiAmqp *conn);

/* What to do about an error of kind PI_AMQP_TLS: a sentence without full stop. */
extern const char *pi_amqp_tls_advice(const PiAmqpError *error);

/* For the wait set of the caller. */
extern int	pi_amqp_socket(const PiAmqp *conn);

/* What went wrong; kind PI_AMQP_NONE while the connection is good. */
extern const PiAmqpError *pi_amqp_error(const PiAmqp *conn);

/* Negotiated heartbeat in seconds; 0: none. */
extern int	pi_amqp_heartbeat(const PiAmqp *conn);

/*
 * What the broker calls itself, the same for all nodes of a cluster that was
 * given a name; "" if it does not say.
 */
extern const char *pi_amqp_cluster_name(const PiAmqp *conn);

/* True between connection.blocked and connection.unblocked. */
extern bool pi_amqp_blocked(const PiAmqp *conn);

/*
 * ---- set-up; all of these wait --------------------------------------
 *
 * false: see pi_amqp_error().  When the broker refuses the request (kinds
 * PI_AMQP_NOT_FOUND, PI_AMQP_PRECONDITION, PI_AMQP_ACCESS, PI_AMQP_CHANNEL) it
 * closes a channel, which is open again before the function returns: the
 * connection stays usable, and the error is cleared by the next call.  After
 * any other kind it is dead.  Queues are looked up and declared on a channel
 * of their own, so a refusal there does not disturb a consumer or confirm
 * mode.  What arrives meanwhile is kept for pi_amqp_next().
 */

typedef struct PiQueueInfo
{
	uint32		messages;
	uint32		consumers;
} PiQueueInfo;

/* Looks a queue up passively.  info may be NULL, here and below. */
extern bool pi_amqp_queue_lookup(PiAmqp *conn, const char *queue, PiQueueInfo *info);

/*
 * Declares a durable queue.  type "classic" or "quorum"; ttl_ms 0: no
 * x-message-ttl.
 */
extern bool pi_amqp_queue_declare(PiAmqp *conn, const char *queue, const char *type,
								  int64 ttl_ms, PiQueueInfo *info);

/*
 * Is the user allowed to declare a queue, to publish to the default exchange
 * ("queue" has no say then), to consume from a queue?  What is asked for is
 * such that the broker refuses it, or throws it away, even if the user is
 * allowed.  For a connection that is closed soon, since it may be blocked or
 * dead after that.
 */
typedef enum PiPermission
{
	PI_MAY_CONFIGURE,
	PI_MAY_WRITE,
	PI_MAY_READ
} PiPermission;

/* false: it is not; true: it is, or pi_amqp_error() says why it is not known. */
extern bool pi_amqp_may(PiAmqp *conn, PiPermission permission, const char *queue);

extern bool pi_amqp_qos(PiAmqp *conn, int prefetch);
extern bool pi_amqp_consume(PiAmqp *conn, const char *queue, const char *consumer_tag);
extern bool pi_amqp_confirm_select(PiAmqp *conn);

/* ---- events --------------------------------------------------------- */

/* A property absent in the message is NULL (or false in has_...). */
typedef struct PiAmqpProperties
{
	char	   *content_type;
	char	   *content_encoding;
	char	   *correlation_id;
	char	   *reply_to;
	char	   *expiration;
	char	   *message_id;
	char	   *type;
	char	   *user_id;
	char	   *app_id;
	bool		has_delivery_mode;
	uint8		delivery_mode;
	bool		has_priority;
	uint8		priority;
	bool		has_timestamp;
	uint64		timestamp;

	/*
	 * The header table as a JSON object text, keys in the order received,
	 * valid UTF-8 without NUL (anything else is replaced), "" if absent.
	 * Headers that a broker adds on redelivery (x-delivery-count,
	 * x-acquired-count, x-death, ...) are left out.  Bytes are strings as
	 * PostgreSQL shows a bytea, timestamps are numbers of seconds; what
	 * cannot be read, or is nested deeper than 32, is null.
	 */
	char	   *headers_json;
} PiAmqpProperties;

typedef struct PiDelivery
{
	uint64		tag;
	bool		redelivered;
	char	   *body;			/* palloc'd, a NUL behind it; may hold fewer
								 * bytes than the message had */
	size_t		len;			/* bytes in body: min(size, max_body) */
	uint64		size;			/* bytes of the message */
	uint8		digest[32];		/* SHA-256 of size and message, of all of it */
	PiAmqpProperties props;
} PiDelivery;

typedef enum PiAmqpEventType
{
	PI_EVENT_NONE,				/* nothing left to read; socket may be slept
								 * on */
	PI_EVENT_DELIVERY,
	PI_EVENT_CONFIRM,			/* ack or nack of publishes */
	PI_EVENT_RETURN,			/* a mandatory publish came back (its confirm
								 * follows) */
	PI_EVENT_QOS_OK,			/* answer to pi_amqp_probe(): everything sent
								 * before it on this channel was seen */
	PI_EVENT_CANCELLED,			/* the broker cancelled the consumer (queue
								 * gone, say); deliveries before it can still
								 * be acknowledged */
	PI_EVENT_BLOCKED,
	PI_EVENT_UNBLOCKED,
	PI_EVENT_QUEUE_INFO,		/* answer to pi_amqp_queue_poll() */
	PI_EVENT_FAILED				/* see pi_amqp_error(); connection is dead */
} PiAmqpEventType;

typedef struct PiAmqpEvent
{
	PiAmqpEventType type;
	PiDelivery	delivery;		/* PI_EVENT_DELIVERY */
	uint64		confirm_seq;	/* PI_EVENT_CONFIRM: publish sequence number */
	bool		confirm_multiple;	/* ... and all before it */
	bool		confirm_nack;	/* refused by the broker */
	char		return_message_id[256]; /* PI_EVENT_RETURN */
	char		return_correlation_id[256]; /* "": none */
	int			return_code;
	char		return_text[256];
	PiQueueInfo queue;			/* PI_EVENT_QUEUE_INFO */
} PiAmqpEvent;

/*
 * The frame pump: reads what is there without waiting, services heartbeats
 * both ways, and returns the next event.  Memory of the delivery is palloc'd
 * in CurrentMemoryContext; bodies longer than max_body are read to their end
 * but only max_body bytes are kept.  Call until PI_EVENT_NONE before sleeping.
 * A delivery that is only partly there is kept inside and continued later.
 */
extern PiAmqpEventType pi_amqp_next(PiAmqp *conn, size_t max_body, PiAmqpEvent *event);

/*
 * Only heartbeats, for use between the messages of a long batch: sends one
 * if due, takes in what the broker sent (up to a bounded amount, queued for
 * pi_amqp_next).  Cheap to call often: does nothing unless a quarter of the
 * interval has passed.  false: connection is dead.
 */
extern bool pi_amqp_keepalive(PiAmqp *conn);

/*
 * Takes in what the broker sent, as pi_amqp_keepalive() does, and looks
 * through it: false if the connection is dead, or if the broker's wish to
 * close it or its channel lies among what is not read yet.
 */
extern bool pi_amqp_alive(PiAmqp *conn);

/* When keepalive is due at the latest; 0 if heartbeats are off. */
extern TimestampTz pi_amqp_keepalive_at(const PiAmqp *conn);

/* ---- sending; none of these waits ----------------------------------- */

/*
 * All return false if the connection turned out dead.  They are written at
 * once as far as the socket takes them; the rest goes out with the next
 * call of pi_amqp_next(), pi_amqp_keepalive() or pi_amqp_flush(), which also
 * says whether there is a rest.
 */
extern bool pi_amqp_nack_requeue(PiAmqp *conn, uint64 tag, bool multiple);

/* Goes out with what is sent after it: one write, one thing for the broker. */
extern bool pi_amqp_ack(PiAmqp *conn, uint64 tag, bool multiple);

/* Asynchronous basic.qos; PI_EVENT_QOS_OK answers, in order. */
extern bool pi_amqp_probe(PiAmqp *conn, int prefetch);

/* Asynchronous passive declare; PI_EVENT_QUEUE_INFO answers. */
extern bool pi_amqp_queue_poll(PiAmqp *conn, const char *queue);

typedef struct PiPublish
{
	const char *queue;			/* routing key on the default exchange */
	const char *message_id;
	const char *correlation_id; /* NULL: none */
	const char *type;			/* NULL: none */
	const char *outcome;		/* header "outcome"; NULL: none */
	int64		expiration_ms;	/* 0: none */
	const char *body;
	size_t		len;
} PiPublish;

typedef enum PiPublishStatus
{
	PI_PUBLISH_SENT,			/* *seq is its confirm sequence number */
	PI_PUBLISH_AGAIN,			/* the socket cannot take it now, or the
								 * connection is blocked: nothing was sent */
	PI_PUBLISH_DEAD
} PiPublishStatus;

/*
 * Persistent, mandatory, content_type application/json, app_id profimport.
 * Ids and the like are cut at 255 bytes.  Never blocks: answers AGAIN while
 * the broker has blocked us and while a megabyte waits for the socket.  The
 * message goes into a buffer; call pi_amqp_flush() after the last one.
 */
extern PiPublishStatus pi_amqp_publish(PiAmqp *conn, const PiPublish *p, uint64 *seq);

/* Writes buffered publishes; *pending: the socket did not take all of it
 * (wait for writability and call again). */
extern bool pi_amqp_flush(PiAmqp *conn, bool *pending);

/*
 * Installs the SIGTERM handler of a process that uses connections.  (It is
 * die(): no call is ever stuck in a library.)
 */
extern void pi_amqp_install_sigterm(void);

#endif							/* PI_AMQP_H */
