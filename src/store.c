/*-------------------------------------------------------------------------
 *
 * store.c
 *		The SQL of the domain: every statement by which profiles and what
 *		belongs to them are read and written; those that search are find.c.
 *
 * NOTES
 *		All names and operators are qualified, so the caller's search_path has
 *		no say, and no search_path need be set per message.
 *
 *		Updates name the version that was read by ctid and xmin.  If somebody
 *		else was faster the update finds nothing, and the caller starts the
 *		message over with a new snapshot: no row lock is taken to read.  (ctid
 *		alone would not do: after waiting for a lock, older servers do not
 *		recheck it.)
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "engine.h"
#include "statement.h"
#include "store.h"

/*
 * True while a write of the engine runs, and how deep in triggers the engine
 * itself is then.
 */
static bool engine_writes = false;
static int	engine_depth = 0;

static PiStatement insert_profile = {
	"INSERT INTO profimport.profile (account_id, db_id, profile_id, email, phones, data)"
	" VALUES ($1, $2, $3, $4, $5, $6)",
	6, {INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTARRAYOID, JSONBOID}
};

static PiStatement update_profile = {
	"UPDATE profimport.profile SET email = $3, phones = $4, data = $5,"
	" updated_at = pg_catalog.now() WHERE ctid" EQ "$1 AND xmin" EQ "$2",
	5, {TIDOID, XIDOID, TEXTOID, TEXTARRAYOID, JSONBOID}
};

static PiStatement lock_profile = {
	"SELECT 1 FROM profimport.profile p"
	" WHERE p.profile_id" EQ "$1" OF_DATABASE("p") " FOR KEY SHARE OF p",
	3, {TEXTOID, INT4OID, INT4OID}
};

static PiStatement delete_subscriptions = {
	"DELETE FROM profimport.subscription s"
	" WHERE s.profile_id" EQ "$1" OF_DATABASE("s"),
	3, {TEXTOID, INT4OID, INT4OID}
};

static PiStatement move_subscriptions = {
	"UPDATE profimport.subscription s SET profile_id = $4, db_id = $5, account_id = $6"
	" WHERE s.profile_id" EQ "$1" OF_DATABASE("s"),
	6, {TEXTOID, INT4OID, INT4OID, TEXTOID, INT4OID, INT4OID}
};

static PiStatement profile_unchanged = {
	"SELECT 1 FROM profimport.profile WHERE ctid" EQ "$1 AND xmin" EQ "$2",
	2, {TIDOID, XIDOID}
};

static PiStatement subscription_unchanged = {
	"SELECT 1 FROM profimport.subscription WHERE ctid" EQ "$1 AND xmin" EQ "$2",
	2, {TIDOID, XIDOID}
};

static PiStatement load_subscriptions = {
	"SELECT s.subscription_no, s.ctid, s.xmin, s.resource_id, s.channel, s.contact,"
	" s.provider, s.cc_data, s.status, s.priority, s.custom_fields, s.cats"
	" FROM profimport.subscription s WHERE s.profile_id" EQ "$1" OF_DATABASE("s")
	" ORDER BY s.subscription_no USING OPERATOR(pg_catalog.<)",
	3, {TEXTOID, INT4OID, INT4OID}
};

static PiStatement insert_subscription = {
	"INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id,"
	" channel, contact, provider, cc_data, status, priority, custom_fields, cats)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
	" RETURNING subscription_no",
	12, {INT4OID, INT4OID, TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID, JSONBOID,
	INT4OID, INT4OID, JSONBOID, TEXTARRAYOID}
};

static PiStatement update_subscription = {
	"UPDATE profimport.subscription SET status = $3, priority = $4, custom_fields = $5,"
	" cats = $6, updated_at = pg_catalog.now() WHERE ctid" EQ "$1 AND xmin" EQ "$2",
	6, {TIDOID, XIDOID, INT4OID, INT4OID, JSONBOID, TEXTARRAYOID}
};

static PiStatement insert_profile_key = {
	"INSERT INTO profimport.profile_key (key_value, name, profile_id, db_id, account_id, is_unique)"
	" VALUES ($1, $2, $3, $4, $5, $6)",
	6, {TEXTOID, TEXTOID, TEXTOID, INT4OID, INT4OID, BOOLOID}
};

static PiStatement delete_profile_key = {
	"DELETE FROM profimport.profile_key WHERE key_value" EQ "$1 AND name" EQ "$2"
	" AND profile_id" EQ "$3 AND db_id" EQ "$4 AND account_id" EQ "$5",
	5, {TEXTOID, TEXTOID, TEXTOID, INT4OID, INT4OID}
};

static PiStatement insert_subscription_key = {
	"INSERT INTO profimport.subscription_key (key_value, name, profile_id, db_id, account_id,"
	" resource_id, subscription_no) VALUES ($1, $2, $3, $4, $5, $6, $7)",
	7, {TEXTOID, TEXTOID, TEXTOID, INT4OID, INT4OID, INT4OID, INT8OID}
};

static PiStatement delete_subscription_key = {
	"DELETE FROM profimport.subscription_key WHERE key_value" EQ "$1 AND name" EQ "$2"
	" AND profile_id" EQ "$3 AND db_id" EQ "$4 AND account_id" EQ "$5"
	" AND resource_id" EQ "$6 AND subscription_no" EQ "$7",
	7, {TEXTOID, TEXTOID, TEXTOID, INT4OID, INT4OID, INT4OID, INT8OID}
};

/* The index on contacts is that of 1.0.0. */
bool		pi_objects_of_1_0 = false;

int
pi_store_begin(void)
{
	Oid			nsp = get_namespace_oid("profimport", false);
	char	   *version;
	int			nestlevel;

	/*
	 * Changes of the configuration that depend on the data take SHARE ROW
	 * EXCLUSIVE on these tables: with our lock held, none of them can come
	 * between the reading of the configuration and the end of our
	 * transaction.
	 */
	LockRelationOid(get_relname_relid("profile", nsp), RowExclusiveLock);
	LockRelationOid(get_relname_relid("subscription", nsp), RowExclusiveLock);

	/* nor can an update of the extension, which replaces an index */
	version = pi_extension_version();
	pi_objects_of_1_0 = version != NULL && strcmp(version, "1.0.0") == 0;

	nestlevel = NewGUCNestLevel();
	(void) set_config_option("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);

	/* an import is never part of a restore, whatever the session has set */
	if (pi_restoring())
		(void) set_config_option("check_function_bodies", "on", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);

	/* the context of errors is read for the function they come from */
	if (strcmp(GetConfigOption("lc_messages", false, false), "C") != 0)
		(void) set_config_option("lc_messages", "C", PGC_SUSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	pi_config_refresh();
	return nestlevel;
}

void
pi_store_end(int nestlevel)
{
	AtEOXact_GUC(true, nestlevel);
}

/* ---- writing -------------------------------------------------------------- */

static Datum
text_or_null(const char *s, char *null)
{
	*null = s ? ' ' : 'n';
	return s ? CStringGetTextDatum(s) : (Datum) 0;
}

static int
trigger_depth(void)
{
	LOCAL_FCINFO(fcinfo, 0);

	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
	return DatumGetInt32(pg_trigger_depth(fcinfo));
}

bool
pi_fired_by_engine(void)
{
	return engine_writes && trigger_depth() == engine_depth + 1;
}

/* A row trigger of the user returned NULL: that is no success. */
void
pi_row_was_swallowed(const char *table)
{
	ereport(ERROR,
			(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
			 errmsg("a trigger kept a row of table \"%s\" from being written", table)));
}

/*
 * After an update that found nothing: is the version that was read gone, as
 * the caller will believe, or did a trigger swallow the row?
 */
static bool
version_is_gone(PiStatement *unchanged, const ItemPointerData * ctid, TransactionId xmin,
				const char *table)
{
	Datum		args[2] = {PointerGetDatum(ctid), TransactionIdGetDatum(xmin)};

	pi_run(unchanged, args, NULL, 1);
	if (SPI_processed > 0)
		pi_row_was_swallowed(table);
	return true;
}

/* Runs a write whose values the engine has checked. */
static void
run_write(PiStatement *st, Datum *args, const char *nulls)
{
	bool		save_writes = engine_writes;
	int			save_depth = engine_depth;

	/* a trigger of the user may import, too */
	engine_writes = true;
	engine_depth = trigger_depth();
	PG_TRY();
	{
		pi_run(st, args, nulls, 0);
	}
	PG_FINALLY();
	{
		engine_writes = save_writes;
		engine_depth = save_depth;
	}
	PG_END_TRY();
}

void
pi_insert_profile(const PiDatabase *db, const char *profile_id, const char *email,
				  const JsonbValue *phones, Jsonb *data)
{
	Datum		args[6] = {Int32GetDatum(db->account_id), Int32GetDatum(db->db_id),
	CStringGetTextDatum(profile_id)};
	char		nulls[7] = "      ";

	args[3] = text_or_null(email, &nulls[3]);
	if (phones)
		args[4] = pi_texts_to_array(phones);
	else
		nulls[4] = 'n';
	args[5] = JsonbPGetDatum(data);
	run_write(&insert_profile, args, nulls);
	if (SPI_processed == 0)
		pi_row_was_swallowed("profile");
}

bool
pi_update_profile(const PiProfile *old, const char *email, const JsonbValue *phones,
				  Jsonb *data)
{
	Datum		args[5] = {PointerGetDatum(&old->ctid), TransactionIdGetDatum(old->xmin)};
	char		nulls[6] = "     ";

	args[2] = text_or_null(email, &nulls[2]);
	if (phones)
		args[3] = pi_texts_to_array(phones);
	else
		nulls[3] = 'n';
	args[4] = JsonbPGetDatum(data);
	run_write(&update_profile, args, nulls);
	return SPI_processed > 0 ||
		!version_is_gone(&profile_unchanged, &old->ctid, old->xmin, "profile");
}

int
pi_load_subscriptions(const PiDatabase *db, const char *profile_id, PiSubscription **subs)
{
	Datum		args[3] = {CStringGetTextDatum(profile_id),
	Int32GetDatum(db->db_id), Int32GetDatum(db->account_id)};
	int			n;

	pi_run(&load_subscriptions, args, NULL, 0);
	n = SPI_processed;
	*subs = palloc0(sizeof(PiSubscription) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		PiSubscription *s = &(*subs)[i];
		bool		isnull;
		JsonbValue	cats;

		s->subscription_no = DatumGetInt64(pi_column(i, 1, &isnull));
		pi_column_version(i, 2, &s->ctid, &s->xmin);
		s->resource_id = DatumGetInt32(pi_column(i, 4, &isnull));
		s->channel = pi_column_text(i, 5);
		s->contact = pi_column_text(i, 6);
		s->provider = pi_column_text(i, 7);
		s->cc_data = pi_column_jsonb(i, 8);
		s->status = DatumGetInt32(pi_column(i, 9, &isnull));
		s->priority = DatumGetInt32(pi_column(i, 10, &isnull));
		s->custom_fields = pi_column_jsonb(i, 11);
		pi_array_to_texts(pi_column(i, 12, &isnull), &cats);
		s->ncats = cats.val.array.nElems;
		s->cats = palloc(sizeof(char *) * Max(s->ncats, 1));
		for (int j = 0; j < s->ncats; j++)
			s->cats[j] = cats.val.array.elems[j].val.string.val;
		s->contact_key = pi_contact_key_of(s->channel, s->contact, s->provider, s->cc_data);
	}
	SPI_freetuptable(SPI_tuptable);
	return n;
}

void
pi_insert_subscription(const PiDatabase *db, const char *profile_id, PiSubscription *sub)
{
	Datum		args[12] = {Int32GetDatum(db->account_id), Int32GetDatum(db->db_id),
	CStringGetTextDatum(profile_id), Int32GetDatum(sub->resource_id)};
	char		nulls[13] = "            ";
	bool		isnull;

	args[4] = CStringGetTextDatum(sub->channel);
	args[5] = text_or_null(sub->contact, &nulls[5]);
	args[6] = text_or_null(sub->provider, &nulls[6]);
	if (sub->cc_data)
		args[7] = JsonbPGetDatum(sub->cc_data);
	else
		nulls[7] = 'n';
	args[8] = Int32GetDatum(sub->status);
	args[9] = Int32GetDatum(sub->priority);
	args[10] = JsonbPGetDatum(sub->custom_fields);
	args[11] = pi_cstrings_to_array(sub->cats, sub->ncats);
	run_write(&insert_subscription, args, nulls);
	if (SPI_processed == 0)
		pi_row_was_swallowed("subscription");
	sub->subscription_no = DatumGetInt64(pi_column(0, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
}

bool
pi_update_subscription(const PiSubscription *sub)
{
	Datum		args[6] = {PointerGetDatum(&sub->ctid), TransactionIdGetDatum(sub->xmin),
		Int32GetDatum(sub->status), Int32GetDatum(sub->priority),
	JsonbPGetDatum(sub->custom_fields), pi_cstrings_to_array(sub->cats, sub->ncats)};

	run_write(&update_subscription, args, NULL);
	return SPI_processed > 0 ||
		!version_is_gone(&subscription_unchanged, &sub->ctid, sub->xmin, "subscription");
}

/* ---- keys ------------------------------------------------------------------ */

/*
 * Keys and subscriptions are kept whoever writes the row they belong to: as the
 * owner of the tables, and in whatever isolation level with what is committed
 * by now, as foreign keys do it.
 */
static void
run_as_owner(PiStatement *st, Datum *args)
{
	Oid			save_userid;
	int			save_sec_context;

	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(pi_owner(), save_sec_context | SECURITY_LOCAL_USERID_CHANGE);
	pi_run_with_snapshot(st, args, NULL, 0,
					  IsolationUsesXactSnapshot() ? GetLatestSnapshot() : InvalidSnapshot);
	SetUserIdAndSecContext(save_userid, save_sec_context);
}

bool
pi_lock_profile(int account_id, int db_id, const char *profile_id)
{
	Datum		args[3] = {CStringGetTextDatum(profile_id), Int32GetDatum(db_id),
	Int32GetDatum(account_id)};

	run_as_owner(&lock_profile, args);
	return SPI_processed > 0;
}

void
pi_delete_subscriptions(int account_id, int db_id, const char *profile_id)
{
	Datum		args[3] = {CStringGetTextDatum(profile_id), Int32GetDatum(db_id),
	Int32GetDatum(account_id)};

	run_as_owner(&delete_subscriptions, args);
}

void
pi_move_subscriptions(int account_id, int db_id, const char *profile_id,
					  int new_account_id, int new_db_id, const char *new_profile_id)
{
	Datum		args[6] = {CStringGetTextDatum(profile_id), Int32GetDatum(db_id),
		Int32GetDatum(account_id), CStringGetTextDatum(new_profile_id),
	Int32GetDatum(new_db_id), Int32GetDatum(new_account_id)};

	run_as_owner(&move_subscriptions, args);
}

void
pi_write_profile_keys(bool insert, int account_id, int db_id, const char *profile_id,
					  const char *name, bool is_unique, const char *key)
{
	Datum		args[6] = {CStringGetTextDatum(key), CStringGetTextDatum(name),
		CStringGetTextDatum(profile_id), Int32GetDatum(db_id), Int32GetDatum(account_id),
	BoolGetDatum(is_unique)};

	run_as_owner(insert ? &insert_profile_key : &delete_profile_key, args);
}

void
pi_write_subscription_keys(bool insert, int account_id, int db_id, const char *profile_id,
						   int64 subscription_no, int resource_id,
						   const char *name, const char *key)
{
	Datum		args[7] = {CStringGetTextDatum(key), CStringGetTextDatum(name),
		CStringGetTextDatum(profile_id), Int32GetDatum(db_id), Int32GetDatum(account_id),
	Int32GetDatum(resource_id), Int64GetDatum(subscription_no)};

	run_as_owner(insert ? &insert_subscription_key : &delete_subscription_key, args);
}
