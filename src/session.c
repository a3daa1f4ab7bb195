/*-------------------------------------------------------------------------
 *
 * session.c
 *		The two connections of a worker: opened, queues seen to, reopened.
 *
 * NOTES
 *		Two, because a broker that runs out of memory or disk stops reading
 *		from connections that publish: on one connection acknowledgements
 *		and deliveries would stand still as well.
 *
 *		Each time the brokers of profimport.amqp_url are tried from the first
 *		one on, so a worker comes back to the first broker at the next
 *		reconnect after it is up again.  When all have refused, the next round
 *		waits a jittered, growing delay.
 *
 *		Queues are looked up passively first, and declared only if they are
 *		missing: what exists is never altered.
 *
 * IDENTIFICATION
 *		src/session.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "broker.h"
#include "commands/dbcommands.h"
#include "compat.h"
#include "postmaster/interrupt.h"
#include "session.h"
#include "settings.h"
#include "shmem.h"
#include "utils/timestamp.h"

void
pi_link_init(PiLink *link, PiLinkKind kind)
{
	memset(link, 0, sizeof(PiLink));
	link->kind = kind;
}

static const char *
purpose(const PiLink *link)
{
	return link->kind == PI_LINK_CONSUME ? "consume" : "publish";
}

/* ---- failures ------------------------------------------------------- */

/*
 * One line per distinct failure, however often it is met.  The texts hold no
 * password and no content of messages.
 */
static void
report(PiLink *link, const char *text, bool was_open)
{
	pi_slot_set_error(text);
	if (strcmp(link->reported, text) == 0)
		return;
	strlcpy(link->reported, text, sizeof(link->reported));
	ereport(LOG,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 was_open ?
			 errmsg("profimport worker %d can no longer %s: %s",
					pi_my_worker + 1, purpose(link), text) :
			 errmsg("profimport worker %d cannot %s: %s",
					pi_my_worker + 1, purpose(link), text)));
}

static void
retry_later(PiLink *link)
{
	int			ms = pi_backoff_next(&link->backoff, pi_reconnect_delay_max);

	link->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

void
pi_link_close(PiLink *link)
{
	PiAmqp	   *conn = link->conn;

	link->conn = NULL;
	link->ready = false;
	link->opened_at = 0;
	link->retry_at = 0;
	link->distrusted = 0;
	if (conn != NULL)
		pi_amqp_close(conn);
}

void
pi_link_fail(PiLink *link)
{
	char		text[1024];

	snprintf(text, sizeof(text), "%s: %s", link->broker,
			 pi_amqp_error(link->conn)->text);
	report(link, text, true);
	link->missing = false;
	pi_link_close(link);
	retry_later(link);
}

void
pi_link_distrust(PiLink *link, const char *why)
{
	char		text[1024];

	if (!link->ready)
		return;
	link->ready = false;
	link->distrusted++;
	snprintf(text, sizeof(text), "%s: %s", link->broker, why);
	report(link, text, false);
	retry_later(link);
}

void
pi_link_prosper(PiLink *link)
{
	link->reported[0] = '\0';
	link->distrusted = 0;
	pi_backoff_reset(&link->backoff);
}

/* ---- queues --------------------------------------------------------- */

/* The connection survives a refusal; anything else has killed it. */
static bool
refused(const PiAmqp *conn)
{
	switch (pi_amqp_error(conn)->kind)
	{
		case PI_AMQP_NOT_FOUND:
		case PI_AMQP_PRECONDITION:
		case PI_AMQP_ACCESS:
		case PI_AMQP_CHANNEL:
			return true;
		default:
			return false;
	}
}

static const char *
queue_type_name(int type)
{
	return type == PI_QUEUE_QUORUM ? "quorum" : "classic";
}

/* Makes sure that a queue exists.  False with *why set. */
static bool
see_to_queue(PiLink *link, const char *queue, int64 ttl_ms, bool *existed,
			 char *why, size_t size)
{
	PiAmqp	   *conn = link->conn;

	*existed = true;
	if (pi_amqp_queue_lookup(conn, queue, NULL))
		return true;
	if (pi_amqp_error(conn)->kind != PI_AMQP_NOT_FOUND)
	{
		snprintf(why, size, "queue \"%s\": %s", queue,
				 pi_amqp_error(conn)->text);
		return false;
	}
	if (!pi_declare_queues)
	{
		link->missing = true;
		snprintf(why, size, "queue \"%s\" does not exist, and profimport.declare_queues is off",
				 queue);
		return false;
	}
	*existed = false;
	if (pi_amqp_queue_declare(conn, queue, queue_type_name(pi_queue_type),
							  ttl_ms, NULL))
		return true;
	snprintf(why, size, "could not declare queue \"%s\": %s", queue,
			 pi_amqp_error(conn)->text);
	return false;
}

/*
 * Does the result queue keep messages as long as the settings say?  AMQP has
 * no way to ask, but a declaration of a queue that exists is refused if the
 * arguments differ, and says which.  The broker names one argument only, so a
 * queue of the other type needs a second question.
 */
static void
compare_ttl(PiAmqp *conn)
{
	static char warned[512];
	static const int types[] = {PI_QUEUE_CLASSIC, PI_QUEUE_QUORUM};
	int			len;

	for (int i = 0; i < lengthof(types); i++)
	{
		if (pi_amqp_queue_declare(conn, pi_result_queue,
								  queue_type_name(types[i]),
								  (int64) pi_result_ttl * 1000, NULL))
		{
			warned[0] = '\0';
			return;
		}
		if (!refused(conn))
			return;
		if (strstr(pi_amqp_error(conn)->text, "x-message-ttl") != NULL)
			break;
		if (i + 1 == lengthof(types))
			return;
	}
	if (strcmp(warned, pi_amqp_error(conn)->text) == 0)
		return;
	strlcpy(warned, pi_amqp_error(conn)->text, sizeof(warned));
	len = strlen(warned);
	if (len > 0 && warned[len - 1] == '.')
		len--;
	ereport(WARNING,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("queue \"%s\" keeps messages for another time than profimport.result_ttl says",
					pi_result_queue),
			 errdetail("It is used as it is.  The broker says: %.*s.", len, warned),
			 errhint("Results carry an expiration of profimport.result_ttl; the broker applies the shorter of the two.")));
}

/*
 * Of which type is a queue that was there already?  Asked in the same way;
 * who may not ask goes by the setting.  False: the connection is gone.
 */
static bool
learn_type(PiLink *link)
{
	link->quorum = pi_queue_type == PI_QUEUE_QUORUM;
	if (pi_amqp_queue_declare(link->conn, pi_import_queue,
							  queue_type_name(pi_queue_type), 0, NULL))
		return true;
	if (!refused(link->conn))
		return false;
	if (pi_amqp_error(link->conn)->kind == PI_AMQP_PRECONDITION &&
		strstr(pi_amqp_error(link->conn)->text, "x-queue-type") != NULL)
		link->quorum = !link->quorum;
	return true;
}

static bool
see_to_consumer_queues(PiLink *link, char *why, size_t size)
{
	bool		existed;

	link->missing = false;
	link->quorum = pi_queue_type == PI_QUEUE_QUORUM;
	if (!see_to_queue(link, pi_import_queue, 0, &existed, why, size))
		return false;
	if (!existed || learn_type(link))
		return true;
	snprintf(why, size, "queue \"%s\": %s", pi_import_queue,
			 pi_amqp_error(link->conn)->text);
	return false;
}

static bool
see_to_publisher_queues(PiLink *link, char *why, size_t size)
{
	bool		existed;

	link->missing = false;
	if (!see_to_queue(link, pi_result_queue, (int64) pi_result_ttl * 1000,
					  &existed, why, size))
		return false;
	if (existed)
		compare_ttl(link->conn);
	if (pi_trigger_queue[0] != '\0' &&
		!see_to_queue(link, pi_trigger_queue, 0, &existed, why, size))
		return false;

	/* a refusal concerns what goes there alone; it is no reason to stop */
	if (link->former_queue != NULL && pi_declare_queues &&
		!see_to_queue(link, link->former_queue, 0, &existed, why, size) &&
		!refused(link->conn))
		return false;
	return true;
}

bool
pi_link_see_to_queues(PiLink *link)
{
	char		why[1024];
	char		text[2048];

	/*
	 * A channel of an older broker (seen with RabbitMQ 3.10) that first
	 * publishes to a quorum queue while the queue's leader is a node that has
	 * just died asks that node for ever, and refuses every message.  A new
	 * channel knows the new leader.
	 */
	if (link->distrusted > 1)
	{
		pi_link_close(link);
		return false;
	}
	link->ready = see_to_publisher_queues(link, why, sizeof(why));
	if (link->ready)
	{
		link->retry_at = 0;
		return true;
	}
	if (!refused(link->conn) &&
		pi_amqp_error(link->conn)->kind != PI_AMQP_NONE)
	{
		pi_link_fail(link);
		return false;
	}
	snprintf(text, sizeof(text), "%s: %s", link->broker, why);
	report(link, text, false);
	retry_later(link);
	return false;
}

/* ---- opening -------------------------------------------------------- */

static bool
set_up(PiLink *link, char *why, size_t size)
{
	PiAmqp	   *conn = link->conn;
	char		tag[64];

	if (link->kind == PI_LINK_PUBLISH)
	{
		if (!see_to_publisher_queues(link, why, size))
			return false;
		if (pi_amqp_confirm_select(conn))
			return true;
	}
	else
	{
		if (!see_to_consumer_queues(link, why, size))
			return false;
		snprintf(tag, sizeof(tag), "profimport worker %d", pi_my_worker + 1);
		if (pi_amqp_qos(conn, pi_effective_prefetch()) &&
			pi_amqp_consume(conn, pi_import_queue, tag))
			return true;
	}
	snprintf(why, size, "%s", pi_amqp_error(conn)->text);
	return false;
}

static void
warn_of_unverified_tls(void)
{
	static bool warned = false;

	if (!warned)
		ereport(WARNING,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("the certificate of the broker is not verified"),
				 errhint("Set profimport.tls_verify to on.")));
	warned = true;
}

/* One broker.  link->conn is set before set-up, so that an error finds it. */
static bool
try_broker(PiLink *link, int i, char *why, size_t size)
{
	PiAmqpTarget target;
	PiAmqpOptions options;
	PiAmqpError error;
	char		name[NAMEDATALEN + 64];
	char		reason[1024];

	link->missing = false;
	if (!pi_broker_target(i, &target, &error))
	{
		strlcpy(why, error.text, size);
		return false;
	}
	pi_amqp_describe(&target, link->broker, sizeof(link->broker));
	strlcpy(link->vhost, target.vhost, sizeof(link->vhost));
	if (target.tls && !pi_tls_verify)
		warn_of_unverified_tls();
	snprintf(name, sizeof(name), "profimport %s worker %d %s", pi_database,
			 pi_my_worker + 1, purpose(link));
	pi_broker_options(&options, name);
	options.yield_to_reload = true;
	link->conn = pi_amqp_open(&target, &options, &error);
	explicit_bzero(&target, sizeof(target));
	if (link->conn == NULL)
	{
		snprintf(why, size, "%s: %s", link->broker, error.text);
		return false;
	}
	link->opened_at = GetCurrentTimestamp();
	if (set_up(link, reason, sizeof(reason)))
		return true;
	snprintf(why, size, "%s: %s", link->broker, reason);
	pi_link_close(link);
	return false;
}

bool
pi_link_open(PiLink *link)
{
	char		why[2048];
	const char *conflict = pi_broker_conflict();
	int			n = pi_broker_count();

	if (conflict != NULL)
	{
		report(link, conflict, false);
		retry_later(link);
		return false;
	}
	for (int i = 0; i < n; i++)
	{
		if (try_broker(link, i, why, sizeof(why)))
		{
			link->ready = true;
			link->retry_at = 0;
			return true;
		}

		/* it may have been given up for the sake of other settings */
		if (ConfigReloadPending)
		{
			link->retry_at = 0;
			return false;
		}
	}
	report(link, why, false);
	retry_later(link);
	return false;
}
