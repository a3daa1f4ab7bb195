/*-------------------------------------------------------------------------
 *
 * amqp_internal.h
 *		What the amqp*.c files share: the connection and its frames.
 *
 * NOTES
 *		rabbitmq-c serves as the codec: its structures for methods and
 *		properties, their encoders and decoders, its pools.  Socket, TLS and
 *		clock are ours, because the library's own input and output cannot be
 *		kept from blocking: a send that does not go out whole waits in poll()
 *		without a limit (0.11), restarts after every signal, and under TLS
 *		there is no way to ask whether a write would block.  In a server
 *		process that holds up shutdown and every other session's DROP
 *		DATABASE.  It also keeps us off each path on which the library calls
 *		abort(), which would restart the whole server.
 *
 *		How the files depend on each other, downwards:
 *
 *			amqp.c          events
 *			amqp_publish.c  sending
 *			amqp_connect.c  TCP, login, close
 *			amqp_rpc.c      set-up of channels and queues
 *			amqp_io.c       buffers, frames, heartbeats, waiting
 *			amqp_header.c   content header -> properties
 *			amqp_resolve.c  host name -> addresses
 *			amqp_tls.c      TLS
 *			amqp_url.c      URLs
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_AMQP_INTERNAL_H
#define PI_AMQP_INTERNAL_H

#include "amqp.h"
#include "compat.h"
#include "digest.h"
#include "lib/stringinfo.h"
#include "port/pg_bswap.h"

#define PI_AMQP_PASS_ON
#ifdef __has_include
#if __has_include(<rabbitmq-c/amqp.h>)
#define PI_RABBITMQ_0_12
#endif
#endif
#ifdef PI_RABBITMQ_0_12
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#endif
#undef PI_AMQP_PASS_ON

/* The largest frame we offer to take, and what the server may cut it to. */
#define PI_FRAME_MAX		131072
#define PI_FRAME_MIN		4096
#define PI_FRAME_OVERHEAD	8	/* 7 bytes in front, 1 behind */

/* Room for two of the largest frames: one incomplete, one on its way. */
#define PI_INPUT_SIZE		(2 * PI_FRAME_MAX)

/*
 * Unsent bytes at which the output goes to the socket although nobody asked,
 * and at which no further publish is taken.
 */
#define PI_OUTPUT_EAGER		65536
#define PI_OUTPUT_LIMIT		(1024 * 1024)

/* Frames put aside while a set-up call waits for its answer. */
#define PI_STASH_LIMIT		(64 * 1024 * 1024)

/* Channel 1 consumes and publishes; queues are looked up on channel 2. */
#define PI_CHANNEL_WORK		1
#define PI_CHANNEL_QUEUES	2

struct addrinfo;
typedef struct PiTls PiTls;

/* A frame as it lies in the input buffer; valid until more is read. */
typedef struct PiFrame
{
	uint8		type;
	uint16		channel;
	uint32		method;			/* of a method frame, else 0 */
	uint32		len;
	const uint8 *payload;		/* of a method frame: behind its number */
} PiFrame;

/* Whose header and body frames come next. */
typedef enum PiContent
{
	PI_CONTENT_NONE,
	PI_CONTENT_DELIVERY,
	PI_CONTENT_RETURN
} PiContent;

struct PiAmqp
{
	MemoryContext context;
	int			fd;
	bool		fd_counted;		/* AcquireExternalFD() was called */
	struct addrinfo *addresses; /* of the host, in the order to be tried */
	PiTls	   *tls;
	bool		dead;
	PiAmqpError error;
	amqp_pool_t pool;			/* for the method being looked at */

	/* agreed upon at login */
	int			rpc_timeout;	/* ms */
	int			user_timeout;	/* ms, TCP_USER_TIMEOUT */
	uint32		frame_max;
	uint16		channel_max;
	int			heartbeat;		/* s */
	char		cluster_name[256];	/* as announced; "": not */
	bool		open;			/* login is complete */
	bool		yields;			/* to a reload, until then */

	/* state of the channels */
	bool		blocked;
	bool		confirms;
	int			prefetch;
	uint64		publish_seq;
	int			probes;			/* qos-ok still to be read */
	int			polls;			/* declare-ok still to be read */

	/* clock, in ms of pi_amqp_now() */
	int64		last_recv;
	int64		last_sent;
	int64		last_keepalive;

	/* input: [in_start, in_end) is not looked at yet */
	char	   *in;
	size_t		in_start;
	size_t		in_end;
	bool		in_short;		/* the last read took all there was */
	bool		in_closed;		/* nothing more will come */
	PiAmqpErrorKind in_kind;	/* ... because of this */
	char		in_why[256];
	StringInfoData stash;		/* frames put aside, read before "in" */

	/* output: [out_start, out_end) is not written yet */
	char	   *out;
	size_t		out_size;
	size_t		out_start;
	size_t		out_end;

	/* the content being assembled */
	PiContent	content;
	bool		content_header; /* its header was seen */
	uint64		content_left;	/* bytes of body still to come */
	size_t		content_max;	/* of its body so many bytes are kept */
	PiSha256   *content_digest; /* NULL: all of it is kept */
	PiDelivery	content_delivery;
	int			return_code;
	char		return_text[256];
	StringInfoData header;		/* payload of the header frame */
	StringInfoData body;
	MemoryContext scratch;
};

/* ---- amqp.c --------------------------------------------------------- */

/* Of a delivery that does not come to its end. */
extern void pi_amqp_drop_digest(PiAmqp *conn);

/* ---- amqp_io.c ------------------------------------------------------ */

extern int64 pi_amqp_now(void);
extern void pi_amqp_clean_text(char *text);
extern void pi_amqp_set_error(PiAmqpError *error, PiAmqpErrorKind kind, int code,
							  const char *fmt,...) pg_attribute_printf(4, 5);
extern bool pi_amqp_fail(PiAmqp *conn, PiAmqpErrorKind kind, int code,
						 const char *fmt,...) pg_attribute_printf(4, 5);

/* -1 dead, 0 nothing complete, 1 one frame taken out */
extern int	pi_amqp_take_frame(PiAmqp *conn, PiFrame *frame);
extern int	pi_amqp_take_stashed(PiAmqp *conn, PiFrame *frame);
extern bool pi_amqp_stash(PiAmqp *conn, const PiFrame *frame);

/* -1 broken, 0 nothing there, 1 something read, 2 buffer full */
extern int	pi_amqp_fill(PiAmqp *conn);

/* What a broken connection died of; always false. */
extern bool pi_amqp_conclude(PiAmqp *conn);
extern bool pi_amqp_on_connection_close(PiAmqp *conn, const PiFrame *frame);

extern void *pi_amqp_decode(PiAmqp *conn, const PiFrame *frame);
extern char *pi_amqp_reserve(PiAmqp *conn, size_t len);
extern bool pi_amqp_put_method(PiAmqp *conn, int channel,
							   amqp_method_number_t method, void *args);
extern bool pi_amqp_write(PiAmqp *conn);
extern bool pi_amqp_heartbeats(PiAmqp *conn, bool drained);
extern int64 pi_amqp_due(const PiAmqp *conn);
extern bool pi_amqp_wait_io(PiAmqp *conn, int events, int64 deadline);
extern bool pi_amqp_wait_frame(PiAmqp *conn, int64 deadline, PiFrame *frame);

/* Numbers on the wire are big-endian and not aligned. */
static inline void
pi_put_u16(char *p, uint16 v)
{
	v = pg_hton16(v);
	memcpy(p, &v, sizeof(v));
}

static inline void
pi_put_u32(char *p, uint32 v)
{
	v = pg_hton32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void
pi_put_u64(char *p, uint64 v)
{
	v = pg_hton64(v);
	memcpy(p, &v, sizeof(v));
}

static inline uint16
pi_get_u16(const uint8 *p)
{
	uint16		v;

	memcpy(&v, p, sizeof(v));
	return pg_ntoh16(v);
}

static inline uint32
pi_get_u32(const uint8 *p)
{
	uint32		v;

	memcpy(&v, p, sizeof(v));
	return pg_ntoh32(v);
}

static inline uint64
pi_get_u64(const uint8 *p)
{
	uint64		v;

	memcpy(&v, p, sizeof(v));
	return pg_ntoh64(v);
}

static inline size_t
pi_amqp_unsent(const PiAmqp *conn)
{
	return conn->out_end - conn->out_start;
}

/* ---- amqp_connect.c ------------------------------------------------- */

extern void pi_amqp_set_user_timeout(int fd, int ms);

/* ---- amqp_rpc.c ----------------------------------------------------- */

extern PiAmqpErrorKind pi_amqp_kind_of(int code);
extern bool pi_amqp_on_channel_close(PiAmqp *conn, const PiFrame *frame,
									 PiAmqpError *error);
extern bool pi_amqp_open_channel(PiAmqp *conn, int channel, int64 deadline);

/* ---- amqp_header.c -------------------------------------------------- */

extern void pi_amqp_parse_header(const uint8 *data, size_t len,
								 PiAmqpProperties *props);

/* ---- amqp_resolve.c ------------------------------------------------- */

/*
 * Waits.  The addresses of a host, to be freed with freeaddrinfo(); NULL
 * with *why set if there are none.
 */
extern struct addrinfo *pi_amqp_resolve(const char *host, int port,
										int64 deadline, const char **why);

/* ---- amqp_tls.c ----------------------------------------------------- */

extern PiTls *pi_tls_create(int fd, const PiAmqpTarget *target,
							const PiAmqpOptions *options, PiAmqpError *error);

/* 1 done, 0 to be called again after *events, -1 failed with *error set */
extern int	pi_tls_handshake(PiTls *tls, int *events, PiAmqpError *error);

/* As recv() and send(): -1 with errno EAGAIN if it would block. */
extern ssize_t pi_tls_recv(PiTls *tls, void *buf, size_t len);
extern ssize_t pi_tls_send(PiTls *tls, const void *buf, size_t len);
extern const char *pi_tls_why(PiTls *tls);
extern void pi_tls_free(PiTls *tls, bool polite);

#endif							/* PI_AMQP_INTERNAL_H */
