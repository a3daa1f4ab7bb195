/*-------------------------------------------------------------------------
 *
 * check_broker.c
 *		What profimport.check() says about the broker: reached, logged in,
 *		queues, permissions.
 *
 * NOTES
 *		The broker is asked by the calling backend itself, over a connection
 *		of its own, so that the answer does not depend on a worker that may be
 *		the very thing that does not run.  Nothing is changed there: queues are
 *		only looked up, and what is asked to learn a permission is refused in
 *		any case (see pi_amqp_may()).
 *
 *		AMQP has no way to read the arguments of a queue; declaring an
 *		existing queue with the arguments expected changes nothing and is
 *		refused, with a text that names the first argument that differs.  This
 *		is done only for a queue that was just seen.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "amqp.h"
#include "broker.h"
#include "check.h"
#include "compat.h"
#include "lib/stringinfo.h"
#include "settings.h"

/* One kind of trouble with URLs: what it was, and what to do about it. */
typedef struct PiTrouble
{
	StringInfoData what;
	StringInfoData advice;
} PiTrouble;

/* ---- commands ------------------------------------------------------- */

/* As a word of a shell. */
static char *
shell_word(const char *text)
{
	StringInfoData buf;

	if (text[0] != '\0' &&
		text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./")] == '\0')
		return pstrdup(text);
	initStringInfo(&buf);
	appendStringInfoChar(&buf, '\'');
	for (; *text; text++)
	{
		if (*text == '\'')
			appendStringInfoString(&buf, "'\\'");
		appendStringInfoChar(&buf, *text);
	}
	appendStringInfoChar(&buf, '\'');
	return buf.data;
}

/* A name in a regular expression. */
static void
append_literal(StringInfo buf, const char *name)
{
	for (; *name; name++)
	{
		if (strchr("\\^$.|?*+()[]{}", *name) != NULL)
			appendStringInfoChar(buf, '\\');
		appendStringInfoChar(buf, *name);
	}
}

/* The command that gives the user of a URL what a worker needs there. */
static char *
set_permissions(const PiAmqpTarget *target)
{
	StringInfoData configure;
	StringInfoData read;

	initStringInfo(&configure);
	appendStringInfoString(&configure, "^(");
	append_literal(&configure, pi_import_queue);
	appendStringInfoChar(&configure, '|');
	append_literal(&configure, pi_result_queue);
	if (pi_trigger_queue[0] != '\0')
	{
		appendStringInfoChar(&configure, '|');
		append_literal(&configure, pi_trigger_queue);
	}
	appendStringInfoString(&configure, ")$");

	initStringInfo(&read);
	appendStringInfoChar(&read, '^');
	append_literal(&read, pi_import_queue);
	appendStringInfoChar(&read, '$');

	return psprintf("rabbitmqctl set_permissions -p %s %s %s '^amq\\.default$' %s",
					shell_word(target->vhost), shell_word(target->user),
					shell_word(configure.data), shell_word(read.data));
}

/* ---- broker and login ----------------------------------------------- */

static char *
advice_on(const PiAmqpError *error, const PiAmqpTarget *target)
{
	switch (error->kind)
	{
		case PI_AMQP_BAD_URL:
			return pstrdup("Correct profimport.amqp_url or profimport.amqp_password_file");
		case PI_AMQP_TLS:
			return pstrdup(pi_amqp_tls_advice(error));
		case PI_AMQP_LOGIN:
			return psprintf("Correct user and password in profimport.amqp_url or profimport.amqp_password_file, or on the broker: "
							"rabbitmqctl add_user %s, or rabbitmqctl change_password %s%s",
							shell_word(target->user), shell_word(target->user),
							strcmp(target->user, "guest") == 0 ?
							". User guest may log in from the broker's own machine only" : "");
		case PI_AMQP_VHOST:
			if (strstr(error->text, "not found") != NULL)
				return psprintf("Correct the virtual host in profimport.amqp_url (/ is written %%2F), or on the broker: "
								"rabbitmqctl add_vhost %s; %s",
								shell_word(target->vhost), set_permissions(target));
			return psprintf("On the broker: %s", set_permissions(target));
		default:
			return pstrdup("Is RabbitMQ running there, and is it the right port? Else: ALTER SYSTEM SET profimport.amqp_url");
	}
}

static void
add_trouble(PiTrouble *trouble, const PiAmqpError *error,
			const PiAmqpTarget *target, const char *where)
{
	int			len = strlen(error->text);
	char	   *advice = advice_on(error, target);

	/* the password file is the same for all URLs */
	if (where[0] == '\0' && strstr(trouble->what.data, error->text) != NULL)
		return;

	/* RabbitMQ ends some of its texts with a full stop */
	if (len > 0 && error->text[len - 1] == '.')
		len--;
	appendStringInfo(&trouble->what, "%s%s%s%.*s",
					 trouble->what.len > 0 ? "; " : "",
					 where, where[0] != '\0' ? ": " : "", len, error->text);
	if (strstr(trouble->advice.data, advice) == NULL)
		appendStringInfo(&trouble->advice, "%s%s",
						 trouble->advice.len > 0 ? ". " : "", advice);
}

static bool
is_refusal(const PiAmqpError *error)
{
	return error->kind == PI_AMQP_BAD_URL || error->kind == PI_AMQP_LOGIN ||
		error->kind == PI_AMQP_VHOST;
}

/* Tries the URLs in turn, like a worker, and reports broker and login. */
static pg_noinline PiAmqp *
check_connection(PiCheck *check, PiAmqpTarget *target)
{
	PiAmqp	   *conn = NULL;
	PiAmqpOptions options;
	PiAmqpError error;
	PiTrouble	unreachable;
	PiTrouble	refused;
	char		where[768] = "";
	bool		reached = false;
	int			n = pi_broker_count();
	int			i;

	initStringInfo(&unreachable.what);
	initStringInfo(&unreachable.advice);
	initStringInfo(&refused.what);
	initStringInfo(&refused.advice);
	pi_broker_options(&options, "profimport check");

	for (i = 0; i < n && conn == NULL; i++)
	{
		if (!pi_broker_target(i, target, &error))
		{
			add_trouble(&refused, &error, target, "");
			continue;
		}
		pi_amqp_describe(target, where, sizeof(where));
		conn = pi_amqp_open(target, &options, &error);
		explicit_bzero(target->password, sizeof(target->password));
		if (conn != NULL)
			break;
		add_trouble(is_refusal(&error) ? &refused : &unreachable, &error,
					target, where);
		reached |= is_refusal(&error);
	}

	if (conn != NULL)
		pi_check_report(check, "broker", PI_GOOD, "connected to %s%s%s", where,
						unreachable.what.len > 0 ? "; not to " : "",
						unreachable.what.data);
	else if (reached)
		pi_check_report(check, "broker", PI_GOOD, "answers%s%s",
						unreachable.what.len > 0 ? "; not so " : "",
						unreachable.what.data);
	else if (unreachable.what.len > 0)
		pi_check_report(check, "broker", PI_BAD, "%s. %s",
						unreachable.what.data, unreachable.advice.data);
	else
		pi_check_report(check, "broker", PI_UNKNOWN, "not checked: see login");

	if (conn != NULL)
		pi_check_report(check, "login", PI_GOOD, "logged in%s%s",
						refused.what.len > 0 ? "; refused by " : "",
						refused.what.data);
	else if (refused.what.len > 0)
		pi_check_report(check, "login", PI_BAD, "%s. %s", refused.what.data,
						refused.advice.data);
	else
		pi_check_report(check, "login", PI_UNKNOWN, "not checked: see broker");

	return conn;
}

/* ---- queues --------------------------------------------------------- */

/*
 * Declares a queue that exists as it is expected to be.  NULL, or the first
 * difference RabbitMQ finds: the type, then durable, auto_delete and
 * exclusive, then the arguments, of which only x-expires comes before
 * x-message-ttl.  A queue of the other type is as good.
 */
static const char *
find_difference(PiAmqp *conn, const char *queue, int64 ttl_ms)
{
	static const char *const types[] = {"classic", "quorum"};
	int			first = pi_queue_type == PI_QUEUE_QUORUM;

	for (int i = 0; i < lengthof(types); i++)
	{
		if (pi_amqp_queue_declare(conn, queue, types[(first + i) % 2], ttl_ms, NULL))
			return NULL;
		if (strstr(pi_amqp_error(conn)->text, "'x-queue-type'") == NULL)
			break;
	}
	return pi_amqp_error(conn)->text;
}

/* Does the queue exist?  If not, or it cannot be used, that is reported. */
static bool
is_there(PiCheck *check, PiAmqp *conn, const PiAmqpTarget *target,
		 const char *item, const char *queue, PiQueueInfo *info)
{
	const PiAmqpError *error;

	if (pi_amqp_queue_lookup(conn, queue, info))
		return true;

	error = pi_amqp_error(conn);
	if (error->kind == PI_AMQP_ACCESS)
		pi_check_report(check, item, PI_BAD,
						"queue \"%s\" may not be looked up: %s. On the broker: %s",
						queue, error->text, set_permissions(target));
	else if (error->kind != PI_AMQP_NOT_FOUND)
		pi_check_report(check, item, PI_BAD,
						"queue \"%s\" cannot be used: %s. If it is exclusive to another connection or has no leader, see rabbitmqctl list_queues -p %s",
						queue, error->text, shell_word(target->vhost));
	else if (!pi_declare_queues)
		pi_check_report(check, item, PI_BAD,
						"queue \"%s\" does not exist and profimport.declare_queues is off: create it (durable), or "
						"ALTER SYSTEM SET profimport.declare_queues = on; SELECT pg_reload_conf()",
						queue);
	else if (!pi_amqp_may(conn, PI_MAY_CONFIGURE, queue))
		pi_check_report(check, item, PI_BAD,
						"queue \"%s\" does not exist, and user \"%s\" lacks permission \"configure\" to create it: %s",
						queue, target->user, set_permissions(target));
	else
		pi_check_report(check, item, PI_GOOD,
						"queue \"%s\" does not exist yet; a worker that connects creates it",
						queue);
	return false;
}

static void
check_import_queue(PiCheck *check, PiAmqp *conn, const PiAmqpTarget *target)
{
	static const char *const item = "import_queue";
	static const char *const losing[] = {
		"'durable'", "'auto_delete'", "'x-expires'", "'x-message-ttl'",
		"'x-max-length'", "'x-max-length-bytes'"
	};
	const char *conflict = pi_broker_conflict();
	const char *difference;
	PiQueueInfo info;

	if (conflict != NULL)
	{
		pi_check_report(check, item, PI_BAD, "%s: set one of them to another queue",
						conflict);
		return;
	}
	if (!pi_amqp_may(conn, PI_MAY_READ, pi_import_queue))
	{
		pi_check_report(check, item, PI_BAD,
						"user \"%s\" lacks permission \"read\" for queue \"%s\": %s",
						target->user, pi_import_queue, set_permissions(target));
		return;
	}
	if (!is_there(check, conn, target, item, pi_import_queue, &info))
		return;

	difference = find_difference(conn, pi_import_queue, 0);
	for (int i = 0; difference != NULL && i < lengthof(losing); i++)
		if (strstr(difference, losing[i]) != NULL)
		{
			pi_check_report(check, item, PI_BAD,
							"queue \"%s\" was created so that messages in it can be lost: %s. "
							"Delete it when it is empty; a worker creates it anew if profimport.declare_queues is on",
							pi_import_queue, difference);
			return;
		}
	pi_check_report(check, item, PI_GOOD,
					"queue \"%s\" has %u messages and %u consumers",
					pi_import_queue, info.messages, info.consumers);
}

static void
report_ttl(PiCheck *check, const char *difference, PiAmqpErrorKind kind)
{
	static const char *const item = "result_ttl";
	static const char *const before_ttl[] = {
		"'x-queue-type'", "'auto_delete'", "'exclusive'", "'x-expires'"
	};
	int			i;

	if (difference != NULL && strstr(difference, "'durable'") != NULL)
	{
		pi_check_report(check, item, PI_BAD,
						"queue \"%s\" is not durable, results are lost when the broker restarts: "
						"delete it when it is empty, so that it is created anew",
						pi_result_queue);
		return;
	}
	if (difference != NULL && strstr(difference, "'x-message-ttl'") != NULL)
	{
		pi_check_report(check, item, PI_BAD,
						"queue \"%s\" was created with another TTL, the shorter one applies: %s. "
						"Delete it when it is empty, so that it is created anew, or set profimport.result_ttl",
						pi_result_queue, difference);
		return;
	}
	if (difference != NULL && kind != PI_AMQP_PRECONDITION)
	{
		pi_check_report(check, item, PI_UNKNOWN, "not checked: %s", difference);
		return;
	}
	for (i = 0; difference != NULL && i < lengthof(before_ttl); i++)
		if (strstr(difference, before_ttl[i]) != NULL)
		{
			pi_check_report(check, item, PI_UNKNOWN, "not checked: %s", difference);
			return;
		}
	pi_check_report(check, item, PI_GOOD,
					"the queue has the TTL of profimport.result_ttl");
}

/* The queue of events has no item of its own. */
static bool
check_trigger_queue(PiCheck *check, PiAmqp *conn, const PiAmqpTarget *target)
{
	if (pi_trigger_queue[0] == '\0' ||
		pi_amqp_queue_lookup(conn, pi_trigger_queue, NULL) ||
		pi_amqp_error(conn)->kind != PI_AMQP_NOT_FOUND)
		return true;
	if (!pi_declare_queues)
		pi_check_report(check, "result_queue", PI_BAD,
						"queue \"%s\" of profimport.trigger_queue does not exist and profimport.declare_queues is off: create it (durable), or "
						"ALTER SYSTEM SET profimport.declare_queues = on; SELECT pg_reload_conf()",
						pi_trigger_queue);
	else if (!pi_amqp_may(conn, PI_MAY_CONFIGURE, pi_trigger_queue))
		pi_check_report(check, "result_queue", PI_BAD,
						"queue \"%s\" of profimport.trigger_queue does not exist, and user \"%s\" lacks permission \"configure\" to create it: %s",
						pi_trigger_queue, target->user, set_permissions(target));
	else
		return true;
	return false;
}

static void
check_result_queue(PiCheck *check, PiAmqp *conn, const PiAmqpTarget *target)
{
	static const char *const item = "result_queue";
	const char *difference;
	PiAmqpErrorKind kind;
	PiQueueInfo info;

	if (!is_there(check, conn, target, item, pi_result_queue, &info))
	{
		pi_check_report(check, "result_ttl", PI_UNKNOWN, "not checked: see result_queue");
		return;
	}
	difference = find_difference(conn, pi_result_queue,
								 (int64) pi_result_ttl * 1000);
	kind = pi_amqp_error(conn)->kind;
	if (difference != NULL)
		difference = pstrdup(difference);

	/* last, since a broker with an alarm does not listen any more after it */
	if (!check_trigger_queue(check, conn, target))
		 /* reported */ ;
	else if (!pi_amqp_may(conn, PI_MAY_WRITE, pi_result_queue))
		pi_check_report(check, item, PI_BAD,
						"user \"%s\" lacks permission \"write\" for the default exchange, amq.default: %s",
						target->user, set_permissions(target));
	else
		pi_check_report(check, item, PI_GOOD,
						"queue \"%s\" has %u messages and %u consumers",
						pi_result_queue, info.messages, info.consumers);
	report_ttl(check, difference, kind);
}

void
pi_check_broker(PiCheck *check)
{
	PiAmqpTarget target;
	PiAmqp	   *conn;

	memset(&target, 0, sizeof(target));
	conn = check_connection(check, &target);
	if (conn == NULL)
	{
		pi_check_report(check, "import_queue", PI_UNKNOWN, "not checked: see broker and login");
		pi_check_report(check, "result_queue", PI_UNKNOWN, "not checked: see broker and login");
		pi_check_report(check, "result_ttl", PI_UNKNOWN, "not checked: see broker and login");
		return;
	}

	/* the queries wait, and may be cancelled meanwhile */
	PG_TRY();
	{
		check_import_queue(check, conn, &target);
		check_result_queue(check, conn, &target);
	}
	PG_FINALLY();
	{
		pi_amqp_close(conn);
	}
	PG_END_TRY();
}
