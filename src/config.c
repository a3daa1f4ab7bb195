/*-------------------------------------------------------------------------
 *
 * config.c
 *		Accounts, databases, fields and resources, cached in each process.
 *
 * NOTES
 *		The cache is filled per database, on first use, and dropped whole
 *		when any of the configuration tables changes: a statement trigger
 *		(pi_config_changed) sends a relcache invalidation for its table, which
 *		reaches every process by pi_config_refresh() at the latest.  The
 *		callback only sets a flag, because it may come in the middle of a
 *		message; pi_config_refresh() acts on it.
 *
 *		While the output of pg_dump is loaded (see triggers.c) declarations may
 *		be there before what they belong to: then fields are read without
 *		asking for their database or resource, so that rows are indexed by them.
 *
 *		Everything is read as the owner of the extension's tables: whoever may
 *		write profiles needs no right on the configuration.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "config.h"

PG_FUNCTION_INFO_V1(pi_config_changed);
PG_FUNCTION_INFO_V1(pi_is_field_name);

static const char *const config_tables[] = {
	"account", "database", "field", "resource", "resource_field"
};

#define NUM_CONFIG_TABLES lengthof(config_tables)

static MemoryContext cache_context = NULL;
static HTAB * cache = NULL;
static Oid config_oids[NUM_CONFIG_TABLES];
static Oid owner = InvalidOid;

/* Set by the callback: nothing in the cache can be relied on. */
static bool stale = true;

/* The cache was filled while a dump is loaded: see NOTES. */
static bool loose = false;

/*
 * Relcache callback: any change of a configuration table, of its definition
 * too, or a reset of everything.
 */
static void
config_callback(Datum arg, Oid relid)
{
	if (relid == InvalidOid)
	{
		stale = true;
		return;
	}
	for (int i = 0; i < NUM_CONFIG_TABLES; i++)
		if (config_oids[i] == relid)
			stale = true;
}

void
pi_config_refresh(void)
{
	static bool registered = false;
	Oid			nsp;
	HASHCTL		ctl;
	HeapTuple	tuple;

	if (!registered)
	{
		CacheRegisterRelcacheCallback(config_callback, (Datum) 0);
		registered = true;
	}

	/*
	 * What only adds to the configuration locks nobody out, so it may have
	 * come since our transaction took its locks.
	 */
	AcceptInvalidationMessages();
	if (!stale && loose == pi_restoring())
		return;
	loose = pi_restoring();

	/*
	 * An import may be under way that holds pointers into the old cache: a
	 * trigger of the user that writes within it brings us here.
	 */
	if (cache_context != NULL)
		MemoryContextSetParent(cache_context, TopTransactionContext);
	cache_context = NULL;
	cache = NULL;

	nsp = get_namespace_oid("profimport", false);
	for (int i = 0; i < NUM_CONFIG_TABLES; i++)
		config_oids[i] = get_relname_relid(config_tables[i], nsp);

	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(config_oids[0]));
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"profimport.account\" does not exist"),
				 errhint("Run CREATE EXTENSION profimport.")));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);

	cache_context = AllocSetContextCreate(TopMemoryContext,
										  "profimport configuration",
										  ALLOCSET_DEFAULT_SIZES);
	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = 2 * sizeof(int);
	ctl.entrysize = sizeof(PiDatabase);
	ctl.hcxt = cache_context;
	cache = hash_create("profimport databases", 64, &ctl,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	stale = false;
}

bool
pi_restoring(void)
{
	return !check_function_bodies;
}

Oid
pi_owner(void)
{
	return owner;
}

/* ---- reading the tables ------------------------------------------------ */

/* A column of the current SPI result, in the cache's memory. */
static char *
column_text(int row, int col)
{
	bool		isnull;
	Datum		d = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
								  col, &isnull);

	return isnull ? NULL : TextDatumGetCString(d);
}

static int
column_int(int row, int col)
{
	bool		isnull;

	return DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[row],
									   SPI_tuptable->tupdesc, col, &isnull));
}

static bool
column_bool(int row, int col)
{
	bool		isnull;
	Datum		d = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
								  col, &isnull);

	return !isnull && DatumGetBool(d);
}

static char **
column_texts(int row, int col, int *n)
{
	bool		isnull;
	Datum	   *elems;
	bool	   *nulls;
	char	  **result;
	Datum		d = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
								  col, &isnull);

	*n = 0;
	if (isnull)
		return NULL;
	deconstruct_array(DatumGetArrayTypeP(d), TEXTOID, -1, false, TYPALIGN_INT,
					  &elems, &nulls, n);
	result = palloc(sizeof(char *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		result[i] = nulls[i] ? "" : TextDatumGetCString(elems[i]);
	return result;
}

/* Columns name, type, options, required, matching, is_unique from "first". */
static void
read_field(int row, int first, PiFieldDef *f)
{
	char	   *type = column_text(row, first + 1);

	f->name = column_text(row, first);
	f->namelen = strlen(f->name);
	if (!pi_type_by_name(type, &f->type))
		elog(ERROR, "unknown field type \"%s\"", type);
	f->options = column_texts(row, first + 2, &f->noptions);
	f->required = column_bool(row, first + 3);
	f->matching = column_bool(row, first + 4);
	f->is_unique = column_bool(row, first + 5);
	f->standard = false;
}

static int
compare_names(const char *a, int alen, const char *b, int blen)
{
	if (alen != blen)
		return alen < blen ? -1 : 1;
	return memcmp(a, b, alen);
}

static int
compare_fields(const void *a, const void *b)
{
	const PiFieldDef *fa = a;
	const PiFieldDef *fb = b;

	return compare_names(fa->name, fa->namelen, fb->name, fb->namelen);
}

/*
 * The configuration that holds now, whatever the snapshot of the transaction
 * shows: keys must be those that it asks for, and the cache outlives us.
 */
static void
query(const char *sql, int account_id, int id)
{
	Oid			types[2] = {INT4OID, INT4OID};
	Datum		args[2] = {Int32GetDatum(account_id), Int32GetDatum(id)};
	MemoryContext oldcontext = CurrentMemoryContext;
	SPIPlanPtr	plan = SPI_prepare(sql, 2, types);

	if (plan == NULL ||
		SPI_execute_snapshot(plan, args, NULL, GetLatestSnapshot(), InvalidSnapshot,
							 false, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the configuration");
	SPI_freeplan(plan);
	MemoryContextSwitchTo(oldcontext);
}

#define EQ " OPERATOR(pg_catalog.=) "

static void
load(PiDatabase *db)
{
	query("SELECT 1 FROM profimport.database"
		  " WHERE account_id" EQ "$1 AND db_id" EQ "$2",
		  db->account_id, db->db_id);
	db->exists = SPI_processed > 0;
	if (!db->exists && !loose)
		return;

	query("SELECT name, type, options, required, matching, is_unique"
		  " FROM profimport.field WHERE account_id" EQ "$1 AND db_id" EQ "$2",
		  db->account_id, db->db_id);
	db->nfields = SPI_processed;
	db->fields = palloc(sizeof(PiFieldDef) * Max(db->nfields, 1));
	for (int i = 0; i < db->nfields; i++)
	{
		PiFieldDef *f = &db->fields[i];

		read_field(i, 1, f);
		db->nrequired += f->required;
		db->nmatching += f->matching;
		db->nunique += f->is_unique;
	}
	qsort(db->fields, db->nfields, sizeof(PiFieldDef), compare_fields);

	if (loose)
		query("SELECT resource_id, '{}'::pg_catalog.text[], true"
			  " FROM profimport.resource_field WHERE account_id" EQ "$1"
			  " AND $2 IS NOT NULL GROUP BY resource_id",
			  db->account_id, db->db_id);
	else
		query("SELECT resource_id, categories,"
			  " db_ids IS NULL OR $2" EQ "ANY (db_ids)"
			  " FROM profimport.resource WHERE account_id" EQ "$1"
			  " ORDER BY resource_id USING OPERATOR(pg_catalog.<)",
			  db->account_id, db->db_id);
	db->nresources = SPI_processed;
	db->resources = palloc0(sizeof(PiResource) * Max(db->nresources, 1));
	for (int i = 0; i < db->nresources; i++)
	{
		PiResource *r = &db->resources[i];

		r->resource_id = column_int(i, 1);
		r->cats = column_texts(i, 2, &r->ncats);
		r->open = column_bool(i, 3);
		db->has_resources |= r->open;
	}
	for (int i = 0; i < db->nresources; i++)
	{
		PiResource *r = &db->resources[i];

		if (!r->open)
			continue;
		query("SELECT name, type, options, required, matching, false"
			  " FROM profimport.resource_field"
			  " WHERE account_id" EQ "$1 AND resource_id" EQ "$2",
			  db->account_id, r->resource_id);
		r->nfields = SPI_processed;
		r->fields = palloc(sizeof(PiFieldDef) * Max(r->nfields, 1));
		for (int j = 0; j < r->nfields; j++)
			read_field(j, 1, &r->fields[j]);
		qsort(r->fields, r->nfields, sizeof(PiFieldDef), compare_fields);
	}
}

const PiDatabase *
pi_config_database(int account_id, int db_id)
{
	int			key[2] = {account_id, db_id};
	PiDatabase	fresh;
	PiDatabase *db;
	bool		found;
	Oid			save_userid;
	int			save_sec_context;
	MemoryContext oldcontext;

	db = hash_search(cache, key, HASH_FIND, NULL);
	if (db != NULL)
		return db;

	/* Unknown databases are not kept: a flood of them would fill memory. */
	memset(&fresh, 0, sizeof(fresh));
	fresh.account_id = account_id;
	fresh.db_id = db_id;

	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(owner, save_sec_context | SECURITY_LOCAL_USERID_CHANGE);
	oldcontext = MemoryContextSwitchTo(cache_context);
	SPI_connect();
	MemoryContextSwitchTo(cache_context);
	load(&fresh);
	SPI_finish();
	MemoryContextSwitchTo(oldcontext);
	SetUserIdAndSecContext(save_userid, save_sec_context);

	if (!fresh.exists && !loose)
	{
		static PiDatabase unknown;

		unknown = fresh;
		return &unknown;
	}
	db = hash_search(cache, key, HASH_ENTER, &found);
	*db = fresh;
	return db;
}

const PiFieldDef *
pi_declared_field(const PiFieldDef *fields, int nfields, const char *name, int namelen)
{
	int			lo = 0;
	int			hi = nfields - 1;

	while (lo <= hi)
	{
		int			mid = (lo + hi) / 2;
		int			c = compare_names(name, namelen, fields[mid].name, fields[mid].namelen);

		if (c == 0)
			return &fields[mid];
		if (c < 0)
			hi = mid - 1;
		else
			lo = mid + 1;
	}
	return NULL;
}

const PiFieldDef *
pi_config_field(const PiDatabase *db, const char *name, int namelen)
{
	const PiFieldDef *f = pi_standard_field(name, namelen);

	return f ? f : pi_declared_field(db->fields, db->nfields, name, namelen);
}

const PiResource *
pi_config_resource(const PiDatabase *db, int resource_id)
{
	for (int i = 0; i < db->nresources; i++)
		if (db->resources[i].resource_id == resource_id)
			return db->resources[i].open ? &db->resources[i] : NULL;
	return NULL;
}

/* ---- SQL ---------------------------------------------------------------- */

/* is_field_name(name text) → boolean */
Datum
pi_is_field_name(PG_FUNCTION_ARGS)
{
	text	   *t = PG_GETARG_TEXT_PP(0);
	const char *s = VARDATA_ANY(t);
	int			len = VARSIZE_ANY_EXHDR(t);

	PG_RETURN_BOOL(len > 0 && len <= 255 && pi_standard_field(s, len) == NULL &&
				   compare_names(s, len, "subscriptions", 13) != 0 &&
				   compare_names(s, len, "profile_id", 10) != 0);
}

/* Statement trigger on the configuration tables. */
Datum
pi_config_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager",
						"config_changed")));
	CacheInvalidateRelcache(trigdata->tg_relation);
	return PointerGetDatum(NULL);
}
