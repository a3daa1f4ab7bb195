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
 *		The SQL function pins search_path and runs with the rights of its
 *		owner, so that to grant EXECUTE on it is enough.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "check.h"
#include "commands/dbcommands.h"
#include "compat.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "replication/logicallauncher.h"
#include "settings.h"
#include "shmem.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(pi_check_1_0);

void
pi_check_report(PiCheck *check, const char *item, PiFinding finding,
				const char *fmt,...)
{
	StringInfoData buf;
	Datum		values[3];
	bool		nulls[3] = {false, finding == PI_UNKNOWN, false};

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
	values[1] = BoolGetDatum(finding == PI_GOOD);
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
		pi_check_report(check, "preloaded", PI_GOOD, "the library is in shared_preload_libraries");
	else
		pi_check_report(check, "preloaded", PI_BAD,
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
		pi_check_report(check, "database", PI_BAD,
						"the extension has version %s, which the library (%s) does not serve, so messages wait: "
						"install the library of that version and restart the server",
						version, PI_VERSION);
	else if (version != NULL && strcmp(version, PI_VERSION) != 0)
		pi_check_report(check, "database", PI_BAD,
						"the extension has version %s, the library %s; the import works, what is new is missing: "
						"ALTER EXTENSION profimport UPDATE",
						version, PI_VERSION);
	else if (strcmp(here, pi_database) == 0)
		pi_check_report(check, "database", PI_GOOD, "profimport.database is this database, \"%s\"",
						here);
	else
		pi_check_report(check, "database", PI_BAD,
						"the workers serve database \"%s\", not this one: "
						"ALTER SYSTEM SET profimport.database = %s; and restart the server",
						pi_database, quote_literal_cstr(here));
}

/* What to do about a worker in a state that is none to be in for long. */
static const char *
advice_on_state(PiWorkerState state)
{
	switch (state)
	{
		case PI_STATE_BLOCKED:
			return "the broker takes no results, since it is short of memory or disk: see rabbitmq-diagnostics alarms";
		case PI_STATE_PAUSED:
			return "too many results wait to be confirmed: does the broker have an alarm (rabbitmq-diagnostics alarms), is the result queue full (x-max-length)?";
		case PI_STATE_WAITING:
			return "it waits for the extension: CREATE EXTENSION profimport in the database of profimport.database";
		case PI_STATE_ERROR:
			return "see item privileges, and the server log";
		case PI_STATE_BACKOFF:
			return "see items broker, login and the queues, and the server log; it tries again by itself";
		default:
			return "see the server log";
	}
}

/* The states in which messages wait. */
static bool
is_stuck(const PiSlot *slot)
{
	switch (slot->state)
	{
		case PI_STATE_WAITING:
		case PI_STATE_BLOCKED:
		case PI_STATE_PAUSED:
		case PI_STATE_BACKOFF:
		case PI_STATE_ERROR:
			return true;
		default:
			return slot->pid == 0;
	}
}

/* Workers that run but do not import, or do not run. */
static void
check_running(PiCheck *check)
{
	PiSlot	   *slot = palloc(sizeof(PiSlot));
	int			n = pi_configured_workers();
	bool		launched;
	int			i;

	SpinLockAcquire(&pi_shared->mutex);
	launched = pi_shared->launcher_pid != 0;
	SpinLockRelease(&pi_shared->mutex);
	if (!launched)
	{
		pi_check_report(check, "workers", PI_BAD,
						"the launcher, which starts the workers, does not run: see item max_worker_processes, and the server log");
		return;
	}

	for (i = 0; i < n; i++)
	{
		bool		tells;

		SpinLockAcquire(&pi_shared->slots[i].mutex);
		memcpy(slot, &pi_shared->slots[i], sizeof(PiSlot));
		SpinLockRelease(&pi_shared->slots[i].mutex);
		if (!is_stuck(slot))
			continue;

		/* what is blocked or paused is so without an error */
		tells = slot->last_error[0] != '\0' &&
			slot->state != PI_STATE_BLOCKED && slot->state != PI_STATE_PAUSED;
		pi_check_report(check, "workers", PI_BAD, "worker %d is in state %s: %s%s%s", i + 1,
						pi_state_name(slot->state),
						tells ? slot->last_error : "",
						tells ? ". Then " : "",
						advice_on_state(slot->state));
		return;
	}

	if (pi_workers > n)
		pi_check_report(check, "workers", PI_BAD,
						"%d of %d workers run, profimport.max_workers allows no more: "
						"ALTER SYSTEM SET profimport.max_workers = %d; and restart the server",
						n, pi_workers, pi_workers);
	else
		pi_check_report(check, "workers", PI_GOOD, "%d of %d run", n, n);
}

static void
check_workers(PiCheck *check)
{
	if (!pi_enabled)
		pi_check_report(check, "workers", PI_BAD,
						"profimport.enabled is off: "
						"ALTER SYSTEM SET profimport.enabled = on; SELECT pg_reload_conf()");
	else if (pi_workers == 0)
		pi_check_report(check, "workers", PI_BAD,
						"profimport.workers is 0: "
						"ALTER SYSTEM SET profimport.workers = 1; SELECT pg_reload_conf()");
	else if (pi_shared == NULL)
		pi_check_report(check, "workers", PI_UNKNOWN, "not checked: the library is not preloaded");
	else if (RecoveryInProgress())
		pi_check_report(check, "workers", PI_UNKNOWN,
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
		out_of_slots = pi_shared->out_of_slots ||
			(pi_shared->launcher_pid == 0 && !RecoveryInProgress());
		SpinLockRelease(&pi_shared->mutex);
	}

	if (out_of_slots || max_worker_processes < ours + core)
		pi_check_report(check, "max_worker_processes", PI_BAD,
						"%d is too few for all that run here, %d of them are for profimport: "
						"ALTER SYSTEM SET max_worker_processes = %d; and restart the server",
						max_worker_processes, ours,
						Max(max_worker_processes, core) + ours);
	else
		pi_check_report(check, "max_worker_processes", PI_GOOD, "%d, of which profimport takes %d",
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
		pi_check_report(check, "role", PI_BAD, "there is no role \"%s\": CREATE ROLE %s LOGIN",
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
		pi_check_report(check, "role", PI_BAD, "role \"%s\" has no LOGIN: ALTER ROLE %s LOGIN",
						role, quote_identifier(role));
	else if (super)
		pi_check_report(check, "role", PI_GOOD,
						"the workers connect as \"%s\"%s, a superuser; triggers on the tables run with its rights. "
						"Safer: a role of its own with LOGIN, SELECT profimport.grant_worker(role), "
						"ALTER SYSTEM SET profimport.role = role",
						role, is_owner ? ", the owner of the extension" : "");
	else
		pi_check_report(check, "role", PI_GOOD, "the workers connect as \"%s\"%s",
						role, is_owner ? ", the owner of the extension" : "");
}

/*
 * The first table whose row-level security may hide rows from the role or
 * refuse them; NULL: none.  A policy that shows and takes all is the only one
 * that can be judged.
 */
static char *
find_row_security(const char *role)
{
	Oid			argtypes[] = {NAMEOID};
	NameData	name;
	Datum		args[1];

	namestrcpy(&name, role);
	args[0] = NameGetDatum(&name);
	SPI_execute_with_args("SELECT w.object FROM profimport.worker_privilege() w "
						  "JOIN pg_class c ON c.oid = CASE w.kind WHEN 'TABLE' THEN w.object::regclass END "
						  "JOIN pg_roles r ON r.rolname = $1 "
						  "WHERE c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls "
						  "AND (c.relforcerowsecurity OR NOT pg_has_role(r.oid, c.relowner, 'USAGE')) "
						  "AND (EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND NOT p.polpermissive) "
						  "OR NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid "
						  "AND p.polpermissive AND p.polcmd = '*' "
						  "AND pg_get_expr(p.polqual, p.polrelid) = 'true' "
						  "AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid), 'true') = 'true' "
						  "AND EXISTS (SELECT FROM unnest(p.polroles) m WHERE m = 0 OR pg_has_role(r.oid, m, 'USAGE')))) "
						  "LIMIT 1",
						  1, argtypes, args, NULL, true, 1);
	return SPI_processed == 0 ? NULL :
		SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

static void
check_privileges(PiCheck *check)
{
	Oid			argtypes[] = {NAMEOID};
	NameData	name;
	Datum		args[1];
	char	   *missing;
	char	   *secured;
	bool		isnull;
	bool		usable;
	bool		connect;

	if (check->role == NULL)
	{
		pi_check_report(check, "privileges", PI_UNKNOWN, "not checked: see role");
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

		pi_check_report(check, "privileges", PI_BAD,
						"the owner of the extension, \"%s\", may not use schema profimport: "
						"GRANT ALL ON SCHEMA profimport TO %s",
						owner, quote_identifier(owner));
		return;
	}

	namestrcpy(&name, check->role);
	args[0] = NameGetDatum(&name);
	SPI_execute_with_args("SELECT string_agg(CASE WHEN n <= 3 THEN privilege || ' ON ' || kind || ' ' || object END, ', ' ORDER BY n) "
						  "|| CASE WHEN count(*) > 3 THEN format(' and %s more', count(*) - 3) ELSE '' END, "
						  "has_database_privilege($1, current_database(), 'CONNECT') "
						  "FROM (SELECT w.*, row_number() OVER () AS n "
						  "FROM profimport.worker_privilege() w "
						  "WHERE NOT CASE kind "
						  "WHEN 'SCHEMA' THEN has_schema_privilege($1, object, privilege) "
						  "WHEN 'TABLE' THEN has_table_privilege($1, object, privilege) "
						  "ELSE has_function_privilege($1, object, privilege) END) m",
						  1, argtypes, args, NULL, true, 1);
	missing = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	connect = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
										 SPI_tuptable->tupdesc, 2, &isnull));

	if (!connect)
		pi_check_report(check, "privileges", PI_BAD,
						"role \"%s\" may not connect to this database: GRANT CONNECT ON DATABASE %s TO %s",
						check->role, quote_identifier(get_database_name(MyDatabaseId)),
						quote_identifier(check->role));
	else if (missing != NULL)
		pi_check_report(check, "privileges", PI_BAD,
						"role \"%s\" lacks %s: SELECT profimport.grant_worker(%s)",
						check->role, missing, quote_literal_cstr(check->role));
	else if ((secured = find_row_security(check->role)) != NULL)
		pi_check_report(check, "privileges", PI_BAD,
						"row-level security may hide rows of %s from role \"%s\": "
						"CREATE POLICY profimport_worker ON %s TO %s USING (true) WITH CHECK (true)",
						secured, check->role, secured, quote_identifier(check->role));
	else
		pi_check_report(check, "privileges", PI_GOOD, "role \"%s\" has what the workers need",
						check->role);
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

	pi_check_broker(&check);

	return (Datum) 0;
}
