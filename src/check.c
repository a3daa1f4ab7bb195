/*-------------------------------------------------------------------------
 *
 * check.c
 *		profimport.check(): looks at everything that can be wrong and says what
 *		to do about it.
 *
 * NOTES
 *		Each item is true, false, or NULL if it could not be judged because of
 *		an item before it.  The detail of one that is false ends in what to
 *		do, as a command where there is one.
 *
 *		The broker is asked by the calling backend itself, over a connection
 *		of its own, so that the answer does not depend on a worker that may be
 *		the very thing that does not run.  Queues are only looked up.  AMQP
 *		has no way to read the TTL of a queue; declaring an existing queue
 *		with the arguments expected changes nothing and is refused, with a
 *		text that names the argument, if they differ.  This is done only for
 *		a queue that was just seen.
 *
 *		The SQL function pins search_path and runs with the rights of its
 *		owner, so that to grant EXECUTE on it is enough.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "amqp.h"
#include "broker.h"
#include "commands/dbcommands.h"
#include "compat.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "replication/logicallauncher.h"
#include "settings.h"
#include "shmem.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(pi_check_1_0);

typedef enum PiVerdict
{
	GOOD,
	BAD,
	UNKNOWN
} PiVerdict;

typedef struct PiCheck
{
	ReturnSetInfo *rsinfo;
	const char *role;			/* what the workers connect as; NULL: nobody */
} PiCheck;

static void report(PiCheck *check, const char *item, PiVerdict verdict,
				   const char *fmt,...) pg_attribute_printf(4, 5);

static void
report(PiCheck *check, const char *item, PiVerdict verdict,
	   const char *fmt,...)
{
	StringInfoData buf;
	Datum		values[3];
	bool		nulls[3] = {false, verdict == UNKNOWN, false};

	initStringInfo(&buf);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, fmt);
		needed = appendStringInfoVA(&buf, fmt, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&buf, needed);
	}

	values[0] = CStringGetTextDatum(item);
	values[1] = BoolGetDatum(verdict == GOOD);
	values[2] = CStringGetTextDatum(buf.data);
	tuplestore_putvalues(check->rsinfo->setResult, check->rsinfo->setDesc,
						 values, nulls);
	pfree(buf.data);
}

/* ------------------------------------------------------------------------
 * The server
 * ------------------------------------------------------------------------
 */

static void
check_preloaded(PiCheck *check)
{
	const char *libraries;

	libraries = GetConfigOption("shared_preload_libraries", false, false);
	if (pi_shared != NULL)
		report(check, "preloaded", GOOD, "the library is in shared_preload_libraries");
	else
		report(check, "preloaded", BAD,
			   "the library is not preloaded, so no worker runs: "
			   "ALTER SYSTEM SET shared_preload_libraries = %s%sprofimport; and restart the server",
			   libraries, libraries[0] != '\0' ? ", " : "");
}

static void
check_database(PiCheck *check)
{
	char	   *here = get_database_name(MyDatabaseId);
	char	   *version = pi_extension_version();

	if (version != NULL && !pi_extension_serves(version))
		report(check, "database", BAD,
			   "the extension has version %s, which the library (%s) does not serve, so messages wait: "
			   "install the library of that version and restart the server",
			   version, PI_VERSION);
	else if (version != NULL && strcmp(version, PI_VERSION) != 0)
		report(check, "database", BAD,
			   "the extension has version %s, the library %s; the import works, what is new is missing: "
			   "ALTER EXTENSION profimport UPDATE",
			   version, PI_VERSION);
	else if (strcmp(here, pi_database) == 0)
		report(check, "database", GOOD, "profimport.database is this database, \"%s\"",
			   here);
	else
		report(check, "database", BAD,
			   "the workers serve database \"%s\", not this one: "
			   "ALTER SYSTEM SET profimport.database = %s; and restart the server",
			   pi_database, quote_literal_cstr(here));
}

/* Workers that run but do not import, or do not run. */
static void
check_running(PiCheck *check)
{
	PiSlot	   *slot = palloc(sizeof(PiSlot));
	int			n = pi_configured_workers();
	int			i;

	for (i = 0; i < n; i++)
	{
		SpinLockAcquire(&pi_shared->slots[i].mutex);
		memcpy(slot, &pi_shared->slots[i], sizeof(PiSlot));
		SpinLockRelease(&pi_shared->slots[i].mutex);

		if (slot->pid == 0 || slot->state == PI_STATE_WAITING ||
			slot->state == PI_STATE_BACKOFF || slot->state == PI_STATE_ERROR)
		{
			report(check, "workers", BAD, "worker %d is in state %s: %s", i + 1,
				   pi_state_name(slot->state),
				   slot->last_error[0] != '\0' ? slot->last_error :
				   "the server log may say why");
			return;
		}
	}

	if (pi_workers > n)
		report(check, "workers", BAD,
			   "%d of %d workers run, profimport.max_workers allows no more: "
			   "ALTER SYSTEM SET profimport.max_workers = %d; and restart the server",
			   n, pi_workers, pi_workers);
	else
		report(check, "workers", GOOD, "%d of %d run", n, n);
}

static void
check_workers(PiCheck *check)
{
	if (!pi_enabled)
		report(check, "workers", BAD,
			   "profimport.enabled is off: "
			   "ALTER SYSTEM SET profimport.enabled = on; SELECT pg_reload_conf()");
	else if (pi_workers == 0)
		report(check, "workers", BAD,
			   "profimport.workers is 0: "
			   "ALTER SYSTEM SET profimport.workers = 1; SELECT pg_reload_conf()");
	else if (pi_shared == NULL)
		report(check, "workers", UNKNOWN, "not checked: the library is not preloaded");
	else if (RecoveryInProgress())
		report(check, "workers", UNKNOWN,
			   "not checked: this server is a standby, workers start when it is promoted");
	else
		check_running(check);
}

static void
check_slots(PiCheck *check)
{
	int			ours = 1 + pi_configured_workers();
	int			core = max_logical_replication_workers > 0 ? 1 : 0;
	bool		out_of_slots = false;

	if (pi_shared != NULL)
	{
		SpinLockAcquire(&pi_shared->mutex);
		out_of_slots = pi_shared->out_of_slots;
		SpinLockRelease(&pi_shared->mutex);
	}

	if (out_of_slots || max_worker_processes < ours + core)
		report(check, "max_worker_processes", BAD,
			   "%d is too few for all that run here, %d of them are for profimport: "
			   "ALTER SYSTEM SET max_worker_processes = %d; and restart the server",
			   max_worker_processes, ours,
			   Max(max_worker_processes, core) + ours);
	else
		report(check, "max_worker_processes", GOOD, "%d, of which profimport takes %d",
			   max_worker_processes, ours);
}

/* ------------------------------------------------------------------------
 * The role
 * ------------------------------------------------------------------------
 */

static void
check_role(PiCheck *check)
{
	Oid			argtypes[] = {NAMEOID};
	NameData	name;
	Datum		args[1];
	HeapTuple	row;
	TupleDesc	desc;
	bool		isnull;
	bool		is_owner = pi_role[0] == '\0';
	char	   *role;
	bool		super;
	bool		login;

	namestrcpy(&name, pi_role);
	args[0] = NameGetDatum(&name);
	SPI_execute_with_args("SELECT rolname, rolsuper, rolcanlogin FROM pg_roles "
						  "WHERE CASE WHEN $1 = '' "
						  "THEN oid = (SELECT extowner FROM pg_extension WHERE extname = 'profimport') "
						  "ELSE rolname = $1 END",
						  1, argtypes, args, NULL, true, 1);
	if (SPI_processed == 0)
	{
		report(check, "role", BAD, "there is no role \"%s\": CREATE ROLE %s LOGIN",
			   pi_role, quote_identifier(pi_role));
		return;
	}

	row = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	role = SPI_getvalue(row, desc, 1);
	super = DatumGetBool(SPI_getbinval(row, desc, 2, &isnull));
	login = DatumGetBool(SPI_getbinval(row, desc, 3, &isnull));
	check->role = role;

	if (!login)
		report(check, "role", BAD, "role \"%s\" has no LOGIN: ALTER ROLE %s LOGIN",
			   role, quote_identifier(role));
	else if (super)
		report(check, "role", GOOD,
			   "the workers connect as \"%s\"%s, a superuser; triggers on the tables run with its rights. "
			   "Safer: a role of its own with LOGIN, SELECT profimport.grant_worker(role), "
			   "ALTER SYSTEM SET profimport.role = role",
			   role, is_owner ? ", the owner of the extension" : "");
	else
		report(check, "role", GOOD, "the workers connect as \"%s\"%s",
			   role, is_owner ? ", the owner of the extension" : "");
}

static void
check_privileges(PiCheck *check)
{
	Oid			argtypes[] = {NAMEOID};
	NameData	name;
	Datum		args[1];
	char	   *missing;
	bool		isnull;
	bool		usable;
	bool		connect;

	if (check->role == NULL)
	{
		report(check, "privileges", UNKNOWN, "not checked: see role");
		return;
	}

	/*
	 * The owner of the extension need not own the schema, if that was there
	 * before; then the next query could not even be asked.
	 */
	SPI_execute("SELECT has_schema_privilege('profimport', 'USAGE')", true, 1);
	usable = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
										SPI_tuptable->tupdesc, 1, &isnull));
	if (!usable)
	{
		char	   *owner = GetUserNameFromId(GetUserId(), false);

		report(check, "privileges", BAD,
			   "the owner of the extension, \"%s\", may not use schema profimport: "
			   "GRANT ALL ON SCHEMA profimport TO %s",
			   owner, quote_identifier(owner));
		return;
	}

	namestrcpy(&name, check->role);
	args[0] = NameGetDatum(&name);
	SPI_execute_with_args("SELECT string_agg(privilege || ' ON ' || kind || ' ' || object, ', '), "
						  "has_database_privilege($1, current_database(), 'CONNECT') "
						  "FROM profimport.worker_privilege() "
						  "WHERE NOT CASE kind "
						  "WHEN 'SCHEMA' THEN has_schema_privilege($1, object, privilege) "
						  "WHEN 'TABLE' THEN has_table_privilege($1, object, privilege) "
						  "ELSE has_function_privilege($1, object, privilege) END",
						  1, argtypes, args, NULL, true, 1);
	missing = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	connect = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
										 SPI_tuptable->tupdesc, 2, &isnull));

	if (!connect)
		report(check, "privileges", BAD,
			   "role \"%s\" may not connect to this database: GRANT CONNECT ON DATABASE %s TO %s",
			   check->role, quote_identifier(get_database_name(MyDatabaseId)),
			   quote_identifier(check->role));
	else if (missing != NULL)
		report(check, "privileges", BAD,
			   "role \"%s\" lacks %s: SELECT profimport.grant_worker(%s)",
			   check->role, missing, quote_literal_cstr(check->role));
	else
		report(check, "privileges", GOOD, "role \"%s\" has what the workers need",
			   check->role);
}

/* ------------------------------------------------------------------------
 * The broker
 * ------------------------------------------------------------------------
 */

/* What kept a URL from being used, told with the right item. */
typedef struct PiTrouble
{
	StringInfoData unreachable; /* goes with broker */
	StringInfoData refused;		/* goes with login */
} PiTrouble;

static void
add_trouble(PiTrouble *trouble, const PiAmqpError *error, const char *where)
{
	StringInfo	buf = &trouble->unreachable;
	int			len = strlen(error->text);

	if (error->kind == PI_AMQP_BAD_URL || error->kind == PI_AMQP_LOGIN ||
		error->kind == PI_AMQP_VHOST)
		buf = &trouble->refused;

	/* the password file is the same for all URLs */
	if (where[0] == '\0' && strstr(buf->data, error->text) != NULL)
		return;

	/* RabbitMQ ends some of its texts with a full stop */
	if (len > 0 && error->text[len - 1] == '.')
		len--;
	appendStringInfo(buf, "%s%s%s%.*s", buf->len > 0 ? "; " : "",
					 where, where[0] != '\0' ? ": " : "", len, error->text);
}

/* Tries the URLs in turn, like a worker, and reports broker and login. */
static PiAmqp *
check_connection(PiCheck *check, PiAmqpTarget *target)
{
	PiAmqp	   *conn = NULL;
	PiAmqpOptions options;
	PiAmqpError error;
	PiTrouble	trouble;
	char		where[512];
	bool		reached = false;
	int			n = pi_broker_count();
	int			i;

	initStringInfo(&trouble.unreachable);
	initStringInfo(&trouble.refused);
	pi_broker_options(&options, "profimport check");

	for (i = 0; i < n && conn == NULL; i++)
	{
		if (!pi_broker_target(i, target, &error))
		{
			add_trouble(&trouble, &error, "");
			continue;
		}
		pi_amqp_describe(target, where, sizeof(where));
		conn = pi_amqp_open(target, &options, &error);
		explicit_bzero(target->password, sizeof(target->password));
		if (conn == NULL)
		{
			add_trouble(&trouble, &error, where);
			if (error.kind == PI_AMQP_LOGIN || error.kind == PI_AMQP_VHOST)
				reached = true;
		}
	}

	if (conn != NULL)
		report(check, "broker", GOOD, "connected to %s%s%s", where,
			   trouble.unreachable.len > 0 ? "; not to " : "",
			   trouble.unreachable.data);
	else if (reached)
		report(check, "broker", GOOD, "answers%s%s",
			   trouble.unreachable.len > 0 ? "; not so " : "",
			   trouble.unreachable.data);
	else if (trouble.unreachable.len > 0)
		report(check, "broker", BAD,
			   "%s. Is RabbitMQ running there? Else: ALTER SYSTEM SET profimport.amqp_url",
			   trouble.unreachable.data);
	else
		report(check, "broker", UNKNOWN, "not checked: see login");

	if (conn != NULL)
		report(check, "login", GOOD, "logged in%s%s",
			   trouble.refused.len > 0 ? "; refused by " : "",
			   trouble.refused.data);
	else if (trouble.refused.len > 0)
		report(check, "login", BAD,
			   "%s. Correct profimport.amqp_url or profimport.amqp_password_file, or in RabbitMQ: "
			   "rabbitmqctl add_user, rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*'",
			   trouble.refused.data);
	else
		report(check, "login", UNKNOWN, "not checked: see broker");

	return conn;
}

/* Reports a queue; true if it is there. */
static bool
check_queue(PiCheck *check, PiAmqp *conn, const char *item, const char *queue)
{
	PiQueueInfo info;
	const PiAmqpError *error;

	if (pi_amqp_queue_lookup(conn, queue, &info))
	{
		const char *conflict = pi_broker_conflict();

		if (conflict != NULL)
			report(check, item, BAD, "%s: set one of them to another queue",
				   conflict);
		else
			report(check, item, GOOD, "queue \"%s\" has %u messages and %u consumers",
				   queue, info.messages, info.consumers);
		return true;
	}

	error = pi_amqp_error(conn);
	if (error->kind != PI_AMQP_NOT_FOUND)
		report(check, item, BAD,
			   "queue \"%s\" cannot be used: %s. In RabbitMQ: "
			   "rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*'",
			   queue, error->text);
	else if (pi_declare_queues)
		report(check, item, GOOD,
			   "queue \"%s\" does not exist yet; a worker that connects creates it",
			   queue);
	else
		report(check, item, BAD,
			   "queue \"%s\" does not exist and profimport.declare_queues is off: create it (durable), or "
			   "ALTER SYSTEM SET profimport.declare_queues = on; SELECT pg_reload_conf()",
			   queue);
	return false;
}

/*
 * Declares the result queue, which exists, as it is expected to be.  What is
 * wrong with it is told by the first difference RabbitMQ finds: the type, then
 * durable, auto_delete and exclusive, then the arguments, of which only
 * x-expires comes before x-message-ttl.
 */
static const char *
declare_expected(PiAmqp *conn, const char *type)
{
	PiQueueInfo info;

	if (pi_amqp_queue_declare(conn, pi_result_queue, type,
							  (int64) pi_result_ttl * 1000, &info))
		return NULL;
	return pi_amqp_error(conn)->text;
}

static void
check_ttl(PiCheck *check, PiAmqp *conn)
{
	static const char *const before_ttl[] = {
		"'x-queue-type'", "'auto_delete'", "'exclusive'", "'x-expires'"
	};
	bool		quorum = pi_queue_type == PI_QUEUE_QUORUM;
	const char *difference;
	int			i;

	/* a queue of the other type is as good */
	difference = declare_expected(conn, quorum ? "quorum" : "classic");
	if (difference != NULL && strstr(difference, "'x-queue-type'") != NULL)
		difference = declare_expected(conn, quorum ? "classic" : "quorum");

	if (difference != NULL && strstr(difference, "'durable'") != NULL)
	{
		report(check, "result_ttl", BAD,
			   "queue \"%s\" is not durable, results are lost when the broker restarts: "
			   "delete it when it is empty, so that it is created anew",
			   pi_result_queue);
		return;
	}

	if (difference != NULL && strstr(difference, "'x-message-ttl'") != NULL)
	{
		report(check, "result_ttl", BAD,
			   "queue \"%s\" was created with another TTL, the shorter one applies: %s. "
			   "Delete it when it is empty, so that it is created anew, or set profimport.result_ttl",
			   pi_result_queue, difference);
		return;
	}

	if (difference != NULL &&
		pi_amqp_error(conn)->kind != PI_AMQP_PRECONDITION)
	{
		report(check, "result_ttl", UNKNOWN, "not checked: %s", difference);
		return;
	}

	for (i = 0; difference != NULL && i < lengthof(before_ttl); i++)
		if (strstr(difference, before_ttl[i]) != NULL)
		{
			report(check, "result_ttl", UNKNOWN, "not checked: %s", difference);
			return;
		}

	report(check, "result_ttl", GOOD,
		   "the queue has the TTL of profimport.result_ttl");
}

static void
check_queues(PiCheck *check, PiAmqp *conn)
{
	(void) check_queue(check, conn, "import_queue", pi_import_queue);

	if (check_queue(check, conn, "result_queue", pi_result_queue))
		check_ttl(check, conn);
	else
		report(check, "result_ttl", UNKNOWN, "not checked: the queue does not exist");
}

static void
check_broker(PiCheck *check)
{
	PiAmqpTarget target;
	PiAmqp	   *conn = check_connection(check, &target);

	if (conn == NULL)
	{
		report(check, "import_queue", UNKNOWN, "not checked: see broker and login");
		report(check, "result_queue", UNKNOWN, "not checked: see broker and login");
		report(check, "result_ttl", UNKNOWN, "not checked: see broker and login");
		return;
	}

	/* the queries wait, and may be cancelled meanwhile */
	PG_TRY();
	{
		check_queues(check, conn);
	}
	PG_FINALLY();
	{
		pi_amqp_close(conn);
	}
	PG_END_TRY();
}

Datum
pi_check_1_0(PG_FUNCTION_ARGS)
{
	PiCheck		check;

	memset(&check, 0, sizeof(check));
	check.rsinfo = pi_init_srf(fcinfo);

	check_preloaded(&check);
	check_database(&check);
	check_workers(&check);
	check_slots(&check);

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI manager");
	check_role(&check);
	check_privileges(&check);
	SPI_finish();

	check_broker(&check);

	return (Datum) 0;
}
