/*-------------------------------------------------------------------------
 *
 * amqp_connect.c
 *		Opening and closing a connection: TCP, TLS, login, channels.
 *
 * NOTES
 *		Everything here is non-blocking underneath and waits on the latch, so
 *		neither an unreachable host nor a broker that stays silent holds up an
 *		interrupt, TLS included.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "amqp_internal.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"

/*
 * Until frame_max is agreed upon the standard allows 4096 bytes; RabbitMQ 4.1
 * needs up to 8192.
 */
#define FRAME_MAX_AT_LOGIN	16384

/* Waiting for an answer of a connected broker ends here at the earliest. */
#define MIN_RPC_TIMEOUT		10000

/* How long close() waits for the broker's answer. */
#define CLOSE_TIMEOUT		100

#ifndef PI_VERSION
#define PI_VERSION "unknown"
#endif

/* ---- the object ----------------------------------------------------- */

static PiAmqp *
create_connection(void)
{
	MemoryContext context;
	MemoryContext oldcontext;
	PiAmqp	   *conn;

	context = AllocSetContextCreate(TopMemoryContext, "profimport connection",
									ALLOCSET_DEFAULT_SIZES);
	oldcontext = MemoryContextSwitchTo(context);
	conn = palloc0(sizeof(PiAmqp));
	conn->context = context;
	conn->scratch = AllocSetContextCreate(context, "profimport returned message",
										  ALLOCSET_SMALL_SIZES);
	conn->fd = -1;
	conn->frame_max = FRAME_MAX_AT_LOGIN;
	conn->in = palloc(PI_INPUT_SIZE);
	conn->out_size = PI_OUTPUT_EAGER;
	conn->out = palloc(conn->out_size);
	initStringInfo(&conn->header);
	initStringInfo(&conn->body);
	init_amqp_pool(&conn->pool, 4096);
	MemoryContextSwitchTo(oldcontext);
	return conn;
}

static void
close_socket(PiAmqp *conn)
{
	if (conn->fd >= 0)
		close(conn->fd);
	conn->fd = -1;
	if (conn->fd_counted)
		ReleaseExternalFD();
	conn->fd_counted = false;
}

static void
free_connection(PiAmqp *conn, bool polite)
{
	if (conn->tls)
		pi_tls_free(conn->tls, polite);
	conn->tls = NULL;
	close_socket(conn);
	pi_amqp_drop_digest(conn);
	if (conn->addresses)
		freeaddrinfo(conn->addresses);
	empty_amqp_pool(&conn->pool);
	MemoryContextDelete(conn->context);
}

/* ---- TCP ------------------------------------------------------------ */

static void
set_socket_options(int fd, int user_timeout)
{
	int			one = 1;

	/* Failure of any of these leaves a socket that works, only not as well. */
	(void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void) setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
#ifdef TCP_KEEPIDLE
	{
		int			idle = 60;

		(void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	}
#endif
	pi_amqp_set_user_timeout(fd, user_timeout);
}

/*
 * How long sent bytes may stay unacknowledged.  It is off while the broker
 * has blocked us: Linux counts a peer that does not read as a dead one.
 */
void
pi_amqp_set_user_timeout(int fd, int ms)
{
#ifdef TCP_USER_TIMEOUT
	unsigned int value = ms;

	(void) setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, sizeof(value));
#endif
}

/* One address; false with errno set. */
static bool
connect_address(PiAmqp *conn, const struct addrinfo *address, int64 deadline)
{
	int			errnum = 0;
	socklen_t	len = sizeof(errnum);

	conn->fd_counted = AcquireExternalFD();
	if (!conn->fd_counted)
		return false;
	conn->fd = socket(address->ai_family, SOCK_STREAM, IPPROTO_TCP);
	if (conn->fd < 0)
		return false;
	if (!pg_set_noblock(conn->fd) ||
		fcntl(conn->fd, F_SETFD, FD_CLOEXEC) < 0)
		return false;
	set_socket_options(conn->fd, conn->user_timeout);

	if (connect(conn->fd, address->ai_addr, address->ai_addrlen) == 0)
		return true;
	if (errno != EINPROGRESS && errno != EINTR)
		return false;

	for (;;)
	{
		struct pollfd pfd;

		pfd.fd = conn->fd;
		pfd.events = POLLOUT;
		pfd.revents = 0;
		if (poll(&pfd, 1, 0) > 0)
			break;
		if (!pi_amqp_wait_io(conn, WL_SOCKET_WRITEABLE, deadline))
		{
			errno = ETIMEDOUT;
			return false;
		}
	}
	if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &errnum, &len) < 0)
		return false;
	errno = errnum;
	return errnum == 0;
}

static bool
connect_tcp(PiAmqp *conn, const PiAmqpTarget *target, int64 deadline)
{
	struct addrinfo *address;
	const char *why = NULL;
	int			errnum = 0;
	int			left = 0;

	conn->addresses = pi_amqp_resolve(target->host, target->port, deadline,
									  &why);
	if (conn->addresses == NULL)
		return pi_amqp_fail(conn, PI_AMQP_NETWORK, 0,
							"could not resolve host name \"%s\": %s",
							target->host, why);
	for (address = conn->addresses; address; address = address->ai_next)
		left++;

	/* each address has its share of the time: the first may be a hole */
	for (address = conn->addresses; address; address = address->ai_next)
	{
		int64		now = pi_amqp_now();

		if (connect_address(conn, address,
							now + Max(deadline - now, 0) / left--))
			return true;
		errnum = errno;
		close_socket(conn);
	}
	return pi_amqp_fail(conn, PI_AMQP_NETWORK, 0,
						"could not connect to \"%s\" port %d: %s",
						target->host, target->port, strerror(errnum));
}

static bool
connect_tls(PiAmqp *conn, const PiAmqpTarget *target,
			const PiAmqpOptions *options, int64 deadline)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(conn->context);
	int			events = 0;
	int			r;

	conn->tls = pi_tls_create(conn->fd, target, options, &conn->error);
	MemoryContextSwitchTo(oldcontext);
	if (conn->tls == NULL)
	{
		conn->dead = true;
		return false;
	}
	while ((r = pi_tls_handshake(conn->tls, &events, &conn->error)) == 0)
	{
		if (!pi_amqp_wait_io(conn, events, deadline))
			return pi_amqp_fail(conn, PI_AMQP_TLS, 0,
								"timeout during the TLS handshake with \"%s\"",
								target->host);
	}
	if (r < 0)
		conn->dead = true;
	return r > 0;
}

/* ---- login ---------------------------------------------------------- */

static amqp_table_entry_t
utf8_entry(const char *key, const char *value)
{
	amqp_table_entry_t entry;

	memset(&entry, 0, sizeof(entry));
	entry.key = amqp_cstring_bytes(key);
	entry.value.kind = AMQP_FIELD_KIND_UTF8;
	entry.value.value.bytes = amqp_cstring_bytes(value);
	return entry;
}

static amqp_table_entry_t
true_entry(const char *key)
{
	amqp_table_entry_t entry;

	memset(&entry, 0, sizeof(entry));
	entry.key = amqp_cstring_bytes(key);
	entry.value.kind = AMQP_FIELD_KIND_BOOLEAN;
	entry.value.value.boolean = 1;
	return entry;
}

/* Is PLAIN among the words of the list? */
static bool
offers_plain(amqp_bytes_t mechanisms)
{
	const char *p = mechanisms.bytes;
	const char *end = p + mechanisms.len;

	while (p < end)
	{
		const char *space = memchr(p, ' ', end - p);
		const char *stop = space ? space : end;

		if (stop - p == 5 && memcmp(p, "PLAIN", 5) == 0)
			return true;
		p = stop + 1;
	}
	return false;
}

/* Waits for one method on channel 0; NULL if anything else comes. */
static void *
expect(PiAmqp *conn, amqp_method_number_t method, int64 deadline)
{
	PiFrame		frame;

	do
	{
		if (!pi_amqp_wait_frame(conn, deadline, &frame))
			return NULL;
	} while (frame.type == AMQP_FRAME_HEARTBEAT);

	if (frame.channel == 0 && frame.method == method)
		return pi_amqp_decode(conn, &frame);
	if (frame.channel == 0 && frame.method == AMQP_CONNECTION_CLOSE_METHOD)
		pi_amqp_on_connection_close(conn, &frame);
	else
		pi_amqp_fail(conn, PI_AMQP_PROTOCOL, 0,
					 "unexpected answer of the broker during login");
	return NULL;
}

/* What else the broker tells of itself is for people. */
static void
note_cluster_name(PiAmqp *conn, const amqp_table_t *properties)
{
	for (int i = 0; i < properties->num_entries; i++)
	{
		const amqp_table_entry_t *entry = &properties->entries[i];
		const amqp_bytes_t *value = &entry->value.value.bytes;

		if (entry->key.len == 12 &&
			memcmp(entry->key.bytes, "cluster_name", 12) == 0 &&
			entry->value.kind == AMQP_FIELD_KIND_UTF8)
			snprintf(conn->cluster_name, sizeof(conn->cluster_name), "%.*s",
					 (int) Min(value->len, sizeof(conn->cluster_name)),
					 (const char *) value->bytes);
	}
}

static bool
send_start_ok(PiAmqp *conn, const PiAmqpTarget *target,
			  const PiAmqpOptions *options)
{
	amqp_connection_start_ok_t ok;
	amqp_table_t capabilities_table;
	amqp_table_entry_t capabilities[5];
	amqp_table_entry_t properties[5];
	char		name[256];
	char		response[sizeof(target->user) + sizeof(target->password) + 2];
	size_t		user_len = strlen(target->user);
	size_t		password_len = strlen(target->password);
	bool		sent;

	/* the broker tells only clients who say they understand */
	capabilities[0] = true_entry("consumer_cancel_notify");
	capabilities[1] = true_entry("connection.blocked");
	capabilities[2] = true_entry("publisher_confirms");
	capabilities[3] = true_entry("basic.nack");
	capabilities[4] = true_entry("authentication_failure_close");
	capabilities_table.num_entries = lengthof(capabilities);
	capabilities_table.entries = capabilities;

	strlcpy(name, options->connection_name ? options->connection_name : "",
			sizeof(name));
	pi_amqp_clean_text(name);
	properties[0] = utf8_entry("product", "profimport");
	properties[1] = utf8_entry("version", PI_VERSION);
	properties[2] = utf8_entry("platform", "PostgreSQL " PG_VERSION);
	properties[3] = utf8_entry("connection_name", name);
	memset(&properties[4], 0, sizeof(properties[4]));
	properties[4].key = amqp_cstring_bytes("capabilities");
	properties[4].value.kind = AMQP_FIELD_KIND_TABLE;
	properties[4].value.value.table = capabilities_table;

	response[0] = '\0';
	memcpy(response + 1, target->user, user_len);
	response[user_len + 1] = '\0';
	memcpy(response + user_len + 2, target->password, password_len);

	memset(&ok, 0, sizeof(ok));
	ok.client_properties.num_entries = lengthof(properties);
	ok.client_properties.entries = properties;
	ok.mechanism = amqp_cstring_bytes("PLAIN");
	ok.response.bytes = response;
	ok.response.len = user_len + password_len + 2;
	ok.locale = amqp_cstring_bytes("en_US");
	sent = pi_amqp_put_method(conn, 0, AMQP_CONNECTION_START_OK_METHOD, &ok) &&
		pi_amqp_write(conn);

	/* the password need not stay in memory longer than it has to */
	explicit_bzero(response, sizeof(response));
	return sent;
}

static bool
tune(PiAmqp *conn, const PiAmqpOptions *options,
	 const amqp_connection_tune_t *offer)
{
	amqp_connection_tune_ok_t ok;
	uint32		frame_max = offer->frame_max;
	int			heartbeat = Min(Max(options->heartbeat, 0), PG_UINT16_MAX);

	if (frame_max == 0 || frame_max > PI_FRAME_MAX)
		frame_max = PI_FRAME_MAX;
	if (frame_max < PI_FRAME_MIN)
		return pi_amqp_fail(conn, PI_AMQP_PROTOCOL, 0,
							"broker offers frames of %u bytes only", frame_max);
	conn->frame_max = frame_max;

	conn->channel_max = PI_CHANNEL_QUEUES;
	if (offer->channel_max != 0 && offer->channel_max < PI_CHANNEL_QUEUES)
		return pi_amqp_fail(conn, PI_AMQP_PROTOCOL, 0,
							"broker allows only one channel a connection");

	/* a broker that does not care for heartbeats answers them all the same */
	if (offer->heartbeat != 0 && offer->heartbeat < heartbeat)
		heartbeat = offer->heartbeat;
	conn->heartbeat = heartbeat;

	memset(&ok, 0, sizeof(ok));
	ok.channel_max = conn->channel_max;
	ok.frame_max = frame_max;
	ok.heartbeat = heartbeat;
	return pi_amqp_put_method(conn, 0, AMQP_CONNECTION_TUNE_OK_METHOD, &ok);
}

static bool
log_in(PiAmqp *conn, const PiAmqpTarget *target, const PiAmqpOptions *options,
	   int64 deadline)
{
	static const char greeting[8] = {'A', 'M', 'Q', 'P', 0, 0, 9, 1};
	amqp_connection_start_t *start;
	amqp_connection_tune_t *offer;
	amqp_connection_open_t open;

	memcpy(pi_amqp_reserve(conn, sizeof(greeting)), greeting, sizeof(greeting));
	conn->out_end += sizeof(greeting);
	if (!pi_amqp_write(conn))
		return false;
	start = expect(conn, AMQP_CONNECTION_START_METHOD, deadline);
	if (start == NULL)
		return false;
	if (start->version_major != 0 || start->version_minor != 9)
		return pi_amqp_fail(conn, PI_AMQP_PROTOCOL, 0,
							"peer does not speak AMQP 0-9-1");
	if (!offers_plain(start->mechanisms))
		return pi_amqp_fail(conn, PI_AMQP_LOGIN, 0,
							"broker does not allow login with a password (PLAIN)");

	note_cluster_name(conn, &start->server_properties);
	if (!send_start_ok(conn, target, options))
		return false;
	offer = expect(conn, AMQP_CONNECTION_TUNE_METHOD, deadline);
	explicit_bzero(conn->out + conn->out_end, conn->out_size - conn->out_end);
	if (offer == NULL)
	{
		/* old brokers just hang up on a wrong password */
		if (conn->error.kind == PI_AMQP_NETWORK && conn->in_closed)
			pi_amqp_set_error(&conn->error, PI_AMQP_LOGIN, 0,
							  "broker closed the connection at login as user \"%s\"",
							  target->user);
		else if (conn->error.code == AMQP_ACCESS_REFUSED)
			conn->error.kind = PI_AMQP_LOGIN;
		return false;
	}

	memset(&open, 0, sizeof(open));
	open.virtual_host = amqp_cstring_bytes(target->vhost);
	if (!tune(conn, options, offer) ||
		!pi_amqp_put_method(conn, 0, AMQP_CONNECTION_OPEN_METHOD, &open) ||
		!pi_amqp_write(conn))
		return false;
	if (expect(conn, AMQP_CONNECTION_OPEN_OK_METHOD, deadline) == NULL)
	{
		if (conn->error.code == AMQP_NOT_ALLOWED ||
			conn->error.code == AMQP_ACCESS_REFUSED)
			conn->error.kind = PI_AMQP_VHOST;
		return false;
	}
	conn->open = true;
	return true;
}

static bool
open_connection(PiAmqp *conn, const PiAmqpTarget *target,
				const PiAmqpOptions *options)
{
	int64		deadline = pi_amqp_now() + Max(options->connect_timeout, 1);

	conn->yields = options->yield_to_reload;
	conn->rpc_timeout = Max(options->connect_timeout, MIN_RPC_TIMEOUT);
	conn->user_timeout = options->heartbeat > 0 ?
		Min(options->heartbeat, 3600) * 2000 : 60000;

	return connect_tcp(conn, target, deadline) &&
		(!target->tls || connect_tls(conn, target, options, deadline)) &&
		log_in(conn, target, options, deadline) &&
		pi_amqp_open_channel(conn, PI_CHANNEL_WORK, deadline) &&
		pi_amqp_open_channel(conn, PI_CHANNEL_QUEUES, deadline);
}

PiAmqp *
pi_amqp_open(const PiAmqpTarget *target, const PiAmqpOptions *options,
			 PiAmqpError *error)
{
	PiAmqp	   *volatile conn = create_connection();
	volatile bool ok = false;

	memset(error, 0, sizeof(*error));
	PG_TRY();
	{
		ok = open_connection(conn, target, options);
	}
	PG_CATCH();
	{
		free_connection(conn, false);
		PG_RE_THROW();
	}
	PG_END_TRY();

	if (!ok)
	{
		*error = conn->error;
		free_connection(conn, false);
		return NULL;
	}
	return conn;
}

/* ---- close ---------------------------------------------------------- */

/*
 * Waits a moment for the broker's answer.  It proves that the acks sent
 * before were taken: closing a socket that has unread data resets it, and
 * a reset discards what the peer has not read yet.
 */
static void
await_close_ok(PiAmqp *conn)
{
	int64		deadline = pi_amqp_now() + CLOSE_TIMEOUT;

	for (;;)
	{
		PiFrame		frame;
		struct pollfd pfd;
		int64		left;
		int			r;

		while ((r = pi_amqp_take_frame(conn, &frame)) == 1)
		{
			if (frame.channel == 0 &&
				frame.method == AMQP_CONNECTION_CLOSE_OK_METHOD)
				return;
		}
		if (r < 0)
			return;
		left = deadline - pi_amqp_now();
		if (left <= 0)
			return;
		r = pi_amqp_fill(conn);
		if (r < 0)
			return;
		if (r > 0)
			continue;

		/* poll(): interrupts and the latch are no business of a close */
		pfd.fd = conn->fd;
		pfd.events = POLLIN;
		pfd.revents = 0;
		if (poll(&pfd, 1, (int) left) == 0)
			return;
	}
}

void
pi_amqp_close(PiAmqp *conn)
{
	bool		polite = false;

	if (conn == NULL)
		return;
	if (!conn->dead && conn->open)
	{
		amqp_connection_close_t args;

		memset(&args, 0, sizeof(args));
		args.reply_code = AMQP_REPLY_SUCCESS;
		args.reply_text = amqp_cstring_bytes("bye");
		polite = pi_amqp_put_method(conn, 0, AMQP_CONNECTION_CLOSE_METHOD, &args) &&
			pi_amqp_write(conn) && pi_amqp_unsent(conn) == 0;
		if (polite)
			await_close_ok(conn);
	}
	free_connection(conn, polite && !conn->dead);
}

/*
 * As nothing here waits inside a library, the ordinary handler will do: it
 * sets the latch, and every wait looks at interrupts after that.
 */
void
pi_amqp_install_sigterm(void)
{
	pqsignal(SIGTERM, die);
}
