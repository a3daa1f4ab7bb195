/*-------------------------------------------------------------------------
 *
 * amqp_load.c
 *		The bench's own end of the queues, with rabbitmq-c and nothing else.
 *
 *	amqp_load fill  HOST PORT VHOST QUEUE		publishes the lines of standard
 *		input, persistent, with confirms
 *	amqp_load floor HOST PORT VHOST IN OUT N BATCH
 *		what any bridge must do at least: takes N messages from IN, and for
 *		each batch acknowledges it and publishes one persistent, mandatory
 *		answer per message to OUT, with confirms collected as they come; prints
 *		the seconds it took
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

static void
publish(amqp_connection_state_t c, const char *queue, amqp_bytes_t body, bool answer)
{
	amqp_basic_properties_t p;

	memset(&p, 0, sizeof(p));
	p._flags = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_CONTENT_TYPE_FLAG;
	p.delivery_mode = 2;
	p.content_type = amqp_cstring_bytes("application/json");
	if (answer)
	{
		p._flags |= AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG |
			AMQP_BASIC_APP_ID_FLAG | AMQP_BASIC_EXPIRATION_FLAG;
		p.message_id = amqp_cstring_bytes("0123456789abcdef0123456789abcdef-123");
		p.correlation_id = amqp_cstring_bytes("f1234567");
		p.app_id = amqp_cstring_bytes("profimport");
		p.expiration = amqp_cstring_bytes("86400000");
	}
	if (amqp_basic_publish(c, 1, amqp_empty_bytes, amqp_cstring_bytes(queue), answer, 0,
						   &p, body) != AMQP_STATUS_OK)
		die("basic.publish");
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
		if (f.frame_type != AMQP_FRAME_METHOD)
			continue;
		if (f.payload.method.id == AMQP_BASIC_ACK_METHOD)
		{
			amqp_basic_ack_t *a = f.payload.method.decoded;

			*confirmed = a->multiple ? a->delivery_tag : *confirmed + 1;
		}
		else if (f.payload.method.id == AMQP_BASIC_NACK_METHOD)
			die("a publish");
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

	declare(c, argv[3]);
	amqp_confirm_select(c, 1);
	check(amqp_get_rpc_reply(c), "confirm.select");
	while ((len = getline(&line, &room, stdin)) > 0)
	{
		if (line[len - 1] == '\n')
			len--;
		publish(c, argv[3], (amqp_bytes_t) {.len = len, .bytes = line}, false);
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
			publish(out, argv[4], body, true);
		sent += m;
		confirms(out, sent, &confirmed, 10 * (uint64_t) batch);
	}
	confirms(out, sent, &confirmed, 0);
	printf("%.6f\n", now() - start);
	return 0;
}

int
main(int argc, char **argv)
{
	if (argc == 6 && strcmp(argv[1], "fill") == 0)
		return fill(argv + 2);
	if (argc == 9 && strcmp(argv[1], "floor") == 0)
		return run_floor(argv + 2);
	fprintf(stderr, "usage: see the head of bench/amqp_load.c\n");
	return 2;
}
