/*-------------------------------------------------------------------------
 *
 * amqp_load.c
 *		The bench's own end of the queues, with rabbitmq-c and nothing else.
 *
 *	amqp_load fill  HOST PORT VHOST QUEUE [PREFIX]
 *		publishes the lines of standard input, persistent, with confirms; with
 *		PREFIX, with a message_id of it and the number of the line
 *	amqp_load floor HOST PORT VHOST IN OUT N BATCH
 *		what any bridge must do at least: takes N messages from IN, and for
 *		each batch acknowledges it and publishes one persistent, mandatory
 *		answer per message to OUT, with confirms collected as they come
 *	amqp_load echo  HOST PORT VHOST IN OUT
 *		the same for one message at a time, at once; runs until it is ended
 *	amqp_load ping  HOST PORT VHOST IN OUT RATE
 *		publishes the lines of standard input to IN, RATE a second, or, with
 *		RATE 0, each after the answer to the one before; prints for each answer
 *		in OUT the microseconds since its message was published, or was due to
 *		be: a sender that is held up does not hide the wait
 *
 * floor says "ready" when it is connected, begins with the next line of standard
 * input, says how many seconds it took, and ends when its standard input does, so
 * that whoever started it can look at it before and after.  The consumers in
 * node/ and python/ do the same.
 *
 * Queues are declared durable if they are missing.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_tcp_socket.h>
#endif

#define ANSWER_ID "0123456789abcdef0123456789abcdef-123"

#define WINDOW 5000				/* unconfirmed messages at most */

static void
die(const char *what)
{
	fprintf(stderr, "amqp_load: %s failed\n", what);
	exit(1);
}

static void
check(amqp_rpc_reply_t reply, const char *what)
{
	if (reply.reply_type != AMQP_RESPONSE_NORMAL)
		die(what);
}

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static amqp_connection_state_t
connect_to(char **argv)
{
	amqp_connection_state_t c = amqp_new_connection();
	amqp_socket_t *s = amqp_tcp_socket_new(c);

	if (s == NULL || amqp_socket_open(s, argv[0], atoi(argv[1])) != 0)
		die("connect");
	check(amqp_login(c, argv[2], 0, 131072, 60, AMQP_SASL_METHOD_PLAIN, "guest", "guest"), "login");
	amqp_channel_open(c, 1);
	check(amqp_get_rpc_reply(c), "channel.open");
	return c;
}

static void
declare(amqp_connection_state_t c, const char *queue)
{
	amqp_queue_declare(c, 1, amqp_cstring_bytes(queue), 0, 1, 0, 0, amqp_empty_table);
	amqp_rpc_reply_t reply = amqp_get_rpc_reply(c);

	if (reply.reply_type != AMQP_RESPONSE_NORMAL)
	{
		/* it exists with other arguments: fine, but the channel was closed */
		amqp_channel_close_ok_t ok;

		if (reply.reply.id != AMQP_CHANNEL_CLOSE_METHOD)
			die("queue.declare");
		amqp_send_method(c, 1, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
		amqp_channel_open(c, 1);
		check(amqp_get_rpc_reply(c), "channel.open");
	}
}

/* An answer has every property that a result has. */
static void
publish(amqp_connection_state_t c, const char *queue, amqp_bytes_t body, bool answer,
		amqp_bytes_t message_id, amqp_bytes_t correlation_id)
{
	amqp_basic_properties_t p;
	amqp_table_entry_t outcome = {
		.key = amqp_cstring_bytes("outcome"),
		.value = {.kind = AMQP_FIELD_KIND_UTF8,.value.bytes = amqp_cstring_bytes("updated")}
	};

	memset(&p, 0, sizeof(p));
	p._flags = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_CONTENT_TYPE_FLAG;
	p.delivery_mode = 2;
	p.content_type = amqp_cstring_bytes("application/json");
	if (answer)
	{
		p._flags |= AMQP_BASIC_APP_ID_FLAG | AMQP_BASIC_EXPIRATION_FLAG | AMQP_BASIC_HEADERS_FLAG;
		p.app_id = amqp_cstring_bytes("profimport");
		p.expiration = amqp_cstring_bytes("86400000");
		p.headers.num_entries = 1;
		p.headers.entries = &outcome;
	}
	if (message_id.len > 0)
	{
		p._flags |= AMQP_BASIC_MESSAGE_ID_FLAG;
		p.message_id = message_id;
	}
	if (correlation_id.len > 0)
	{
		p._flags |= AMQP_BASIC_CORRELATION_ID_FLAG;
		p.correlation_id = correlation_id;
	}
	if (amqp_basic_publish(c, 1, amqp_empty_bytes, amqp_cstring_bytes(queue), answer, 0,
						   &p, body) != AMQP_STATUS_OK)
		die("basic.publish");
}

/* What a connection says that only publishes. */
static void
take(amqp_frame_t *f, uint64_t *confirmed)
{
	if (f->frame_type != AMQP_FRAME_METHOD)
		return;
	if (f->payload.method.id == AMQP_BASIC_ACK_METHOD)
	{
		amqp_basic_ack_t *a = f->payload.method.decoded;

		*confirmed = a->multiple ? a->delivery_tag : *confirmed + 1;
	}
	else if (f->payload.method.id == AMQP_BASIC_NACK_METHOD ||
			 f->payload.method.id == AMQP_BASIC_RETURN_METHOD)
		die("a publish");
}

/* Takes confirms in until at most "leave" of "sent" messages lack one. */
static void
confirms(amqp_connection_state_t c, uint64_t sent, uint64_t *confirmed, uint64_t leave)
{
	while (sent - *confirmed > leave)
	{
		amqp_frame_t f;

		if (amqp_simple_wait_frame(c, &f) != AMQP_STATUS_OK)
			die("waiting for confirms");
		take(&f, confirmed);
		amqp_maybe_release_buffers(c);
	}
}

static int
fill(char **argv)
{
	amqp_connection_state_t c = connect_to(argv);
	char	   *line = NULL;
	size_t		room = 0;
	ssize_t		len;
	uint64_t	sent = 0;
	uint64_t	confirmed = 0;
	char		id[256] = "";

	declare(c, argv[3]);
	amqp_confirm_select(c, 1);
	check(amqp_get_rpc_reply(c), "confirm.select");
	while ((len = getline(&line, &room, stdin)) > 0)
	{
		if (line[len - 1] == '\n')
			len--;
		if (argv[4])
			snprintf(id, sizeof(id), "%s%llu", argv[4], (unsigned long long) sent);
		publish(c, argv[3], (amqp_bytes_t) {.len = len, .bytes = line}, false,
				amqp_cstring_bytes(id), amqp_empty_bytes);
		sent++;
		confirms(c, sent, &confirmed, WINDOW);
	}
	confirms(c, sent, &confirmed, 0);
	printf("%llu\n", (unsigned long long) sent);
	return 0;
}

static int
run_floor(char **argv)
{
	amqp_connection_state_t in = connect_to(argv);
	amqp_connection_state_t out = connect_to(argv);
	long		n = atol(argv[5]);
	int			batch = atoi(argv[6]);
	static const char answer[] = "{\"error\":0,\"error_text\":\"\",\"feedback_id\":\"f1234567\","
		"\"matching_field\":\"email\",\"profile_id\":\"0123456789abcdef01234567\"}";
	amqp_bytes_t body = {.len = sizeof(answer) - 1, .bytes = (void *) answer};
	uint64_t	sent = 0;
	uint64_t	confirmed = 0;
	long		got = 0;
	double		start;

	declare(in, argv[3]);
	declare(out, argv[4]);
	amqp_confirm_select(out, 1);
	check(amqp_get_rpc_reply(out), "confirm.select");
	amqp_basic_qos(in, 1, 0, 2 * batch, 0);
	check(amqp_get_rpc_reply(in), "basic.qos");
	puts("ready");
	fflush(stdout);
	(void) getchar();
	start = now();
	amqp_basic_consume(in, 1, amqp_cstring_bytes(argv[3]), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
	check(amqp_get_rpc_reply(in), "basic.consume");
	while (got < n)
	{
		int			m = 0;
		uint64_t	tag = 0;

		while (m < batch && got < n)
		{
			amqp_envelope_t e;

			amqp_maybe_release_buffers(in);
			check(amqp_consume_message(in, &e, NULL, 0), "consume");
			tag = e.delivery_tag;
			amqp_destroy_envelope(&e);
			m++;
			got++;
		}
		if (amqp_basic_ack(in, 1, tag, 1) != AMQP_STATUS_OK)
			die("basic.ack");
		for (int i = 0; i < m; i++)
			publish(out, argv[4], body, true, amqp_cstring_bytes(ANSWER_ID),
					amqp_cstring_bytes("f1234567"));
		sent += m;
		confirms(out, sent, &confirmed, 10 * (uint64_t) batch);
	}
	confirms(out, sent, &confirmed, 0);
	printf("%.6f\n", now() - start);
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}

static void
run_echo(char **argv)
{
	amqp_connection_state_t in = connect_to(argv);
	amqp_connection_state_t out = connect_to(argv);
	uint64_t	sent = 0;
	uint64_t	confirmed = 0;

	declare(in, argv[3]);
	declare(out, argv[4]);
	amqp_confirm_select(out, 1);
	check(amqp_get_rpc_reply(out), "confirm.select");
	amqp_basic_qos(in, 1, 0, 1000, 0);
	check(amqp_get_rpc_reply(in), "basic.qos");
	amqp_basic_consume(in, 1, amqp_cstring_bytes(argv[3]), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
	check(amqp_get_rpc_reply(in), "basic.consume");
	puts("ready");
	fflush(stdout);
	for (;;)
	{
		amqp_envelope_t e;

		amqp_maybe_release_buffers(in);
		check(amqp_consume_message(in, &e, NULL, 0), "consume");
		if (amqp_basic_ack(in, 1, e.delivery_tag, 1) != AMQP_STATUS_OK)
			die("basic.ack");
		publish(out, argv[4], e.message.body, true, amqp_cstring_bytes(ANSWER_ID),
				e.message.properties.correlation_id);
		sent++;
		amqp_destroy_envelope(&e);
		confirms(out, sent, &confirmed, 500);
	}
}

/* Reads all answers and confirms that are there, for at most so many seconds. */
static void
listen(amqp_connection_state_t in, amqp_connection_state_t out, double seconds,
	   uint64_t *confirmed, const double *due, long sent, long *answered)
{
	struct timeval tv;
	struct timeval none = {0, 0};
	amqp_frame_t f;
	amqp_envelope_t e;
	amqp_rpc_reply_t reply;

	while (amqp_simple_wait_frame_noblock(out, &f, &none) == AMQP_STATUS_OK)
		take(&f, confirmed);
	amqp_maybe_release_buffers(out);
	if (seconds < 0)
		seconds = 0;
	tv.tv_sec = (long) seconds;
	tv.tv_usec = (long) ((seconds - tv.tv_sec) * 1e6);
	amqp_maybe_release_buffers(in);
	reply = amqp_consume_message(in, &e, &tv, 0);
	if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION && reply.library_error == AMQP_STATUS_TIMEOUT)
		return;
	check(reply, "waiting for an answer");

	char		id[32] = "";

	memcpy(id, e.message.properties.correlation_id.bytes,
		   e.message.properties.correlation_id.len < sizeof(id) ? e.message.properties.correlation_id.len : 0);
	long		i = atol(id);

	if (i < 0 || i >= sent)
		die("an answer to nothing");
	printf("%.0f\n", (now() - due[i]) * 1e6);
	(*answered)++;
	amqp_destroy_envelope(&e);
}

static int
run_ping(char **argv)
{
	amqp_connection_state_t in = connect_to(argv);
	amqp_connection_state_t out = connect_to(argv);
	double		rate = atof(argv[5]);
	double	   *due = NULL;
	char	   *line = NULL;
	char		id[32];
	size_t		room = 0;
	ssize_t		len;
	long		sent = 0;
	long		answered = 0;
	uint64_t	confirmed = 0;
	double		start;

	declare(out, argv[3]);
	declare(in, argv[4]);
	amqp_confirm_select(out, 1);
	check(amqp_get_rpc_reply(out), "confirm.select");
	amqp_basic_consume(in, 1, amqp_cstring_bytes(argv[4]), amqp_empty_bytes, 0, 1, 0, amqp_empty_table);
	check(amqp_get_rpc_reply(in), "basic.consume");
	start = now();
	while ((len = getline(&line, &room, stdin)) > 0)
	{
		if (line[len - 1] == '\n')
			len--;
		if (sent % 1024 == 0)
			due = realloc(due, sizeof(double) * (sent + 1024));
		if (rate > 0)
		{
			due[sent] = start + sent / rate;
			while (now() < due[sent])
				listen(in, out, due[sent] - now(), &confirmed, due, sent, &answered);
		}
		else
		{
			while (answered < sent)
				listen(in, out, 10, &confirmed, due, sent, &answered);
			due[sent] = now();
		}
		snprintf(id, sizeof(id), "%ld", sent);
		publish(out, argv[3], (amqp_bytes_t) {.len = len, .bytes = line}, false,
				amqp_empty_bytes, amqp_cstring_bytes(id));
		sent++;
	}
	while (answered < sent)
	{
		long		before = answered;

		listen(in, out, 10, &confirmed, due, sent, &answered);
		if (answered == before)
			die("waiting for an answer");
	}
	return 0;
}

int
main(int argc, char **argv)
{
	if ((argc == 6 || argc == 7) && strcmp(argv[1], "fill") == 0)
		return fill(argv + 2);
	if (argc == 9 && strcmp(argv[1], "floor") == 0)
		return run_floor(argv + 2);
	if (argc == 7 && strcmp(argv[1], "echo") == 0)
		run_echo(argv + 2);
	if (argc == 8 && strcmp(argv[1], "ping") == 0)
		return run_ping(argv + 2);
	fprintf(stderr, "usage: see the head of bench/amqp_load.c\n");
	return 2;
}
