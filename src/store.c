/*-------------------------------------------------------------------------
 *
 * store.c
 *		The SQL of the domain: every statement by which profiles are found
 *		and written.
 *
 * NOTES
 *		All names and operators are qualified, so the caller's search_path has
 *		no say, and no search_path need be set per message.
 *
 *		Plans are generic and kept for the life of the process.  They must not
 *		be made from the statistics of tables that happen to be small: every
 *		index leads with its selective column, and sequential scans are off
 *		while a batch runs, whenever a plan is made anew.
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
#include "commands/sequence.h"
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
#include "store.h"

/*
 * True while a write of the engine runs, and how deep in triggers the engine
 * itself is then.
 */
static bool engine_writes = false;
static int	engine_depth = 0;

#define EQ " OPERATOR(pg_catalog.=) "
#define NE " OPERATOR(pg_catalog.<>) "
#define CAT " OPERATOR(pg_catalog.||) "

#define PROFILE_COLUMNS "p.profile_id, p.ctid, p.xmin, p.email, p.phones, p.data"
#define OF_DATABASE(alias) " AND " alias ".db_id" EQ "$2 AND " alias ".account_id" EQ "$3"
#define JOIN_PROFILE(alias) \
	" JOIN profimport.profile p ON p.profile_id" EQ alias ".profile_id" \
	OF_DATABASE("p")

typedef struct Statement
{
	const char *sql;
	int			nargs;
	Oid			types[13];
	SPIPlanPtr	plan;
} Statement;

/* In the searches $1 is the value, $2 the database, $3 the account. */

static Statement find_email = {
	"SELECT " PROFILE_COLUMNS " FROM profimport.profile p"
	" WHERE pg_catalog.lower(p.email COLLATE pg_catalog.\"C\")" EQ "$1" OF_DATABASE("p"),
	3, {TEXTOID, INT4OID, INT4OID}
};

static Statement find_id = {
	"SELECT " PROFILE_COLUMNS " FROM profimport.profile p"
	" WHERE p.profile_id" EQ "$1" OF_DATABASE("p"),
	3, {TEXTOID, INT4OID, INT4OID}
};

static Statement find_key = {
	"SELECT " PROFILE_COLUMNS " FROM profimport.profile_key k" JOIN_PROFILE("k")
	" WHERE k.key_value" EQ "$1" OF_DATABASE("k") " AND k.name" EQ "$4"
	" LIMIT 2",
	4, {TEXTOID, INT4OID, INT4OID, TEXTOID}
};

/* Tags: profiles with the first key that have all the others too. */
static Statement find_keys = {
	"SELECT " PROFILE_COLUMNS " FROM profimport.profile_key k" JOIN_PROFILE("k")
	" WHERE k.key_value" EQ "$1" OF_DATABASE("k") " AND k.name" EQ "$4"
	" AND NOT EXISTS (SELECT 1 FROM pg_catalog.unnest($5) u (key)"
	"  WHERE NOT EXISTS (SELECT 1 FROM profimport.profile_key o"
	"   WHERE o.key_value" EQ "u.key AND o.name" EQ "$4"
	"   AND o.profile_id" EQ "k.profile_id" OF_DATABASE("o") "))"
	" LIMIT 2",
	5, {TEXTOID, INT4OID, INT4OID, TEXTOID, TEXTARRAYOID}
};

/*
 * The expression of index subscription_contact_key.  Operators are written
 * out, like everywhere; so the CASE has to be a searched one.
 */
#define PUSH_CONTACT \
	"((pg_catalog.octet_length(s.provider)::pg_catalog.text" CAT "':')" \
	CAT "s.provider)" CAT "s.contact"
/* what 1.0.0 indexed */
#define PUSH_CONTACT_1_0 "(s.provider" CAT "pg_catalog.chr(31))" CAT "s.contact"
#define CONTACT_DIGEST(push_contact) \
	"pg_catalog.md5(CASE WHEN s.channel" EQ "'email'" \
	" THEN pg_catalog.lower(s.contact COLLATE pg_catalog.\"C\")" \
	" WHEN s.channel" EQ "'push'" \
	" THEN " push_contact \
	" WHEN s.channel" EQ "'telegram_bot'" \
	" THEN pg_catalog.jsonb_hash_extended(s.cc_data, 0::pg_catalog.int8)::pg_catalog.text" \
	" ELSE s.contact END)"

/*
 * A profile may have the contact in several resources.  The digest finds it,
 * the comparison of the contact itself makes sure.
 */
#define FIND_CONTACT(push_contact, digested) \
	"SELECT " PROFILE_COLUMNS " FROM (SELECT DISTINCT s.profile_id" \
	"  FROM profimport.subscription s" \
	"  WHERE " CONTACT_DIGEST(push_contact) EQ "pg_catalog.md5(" digested ")" \
	OF_DATABASE("s") " AND s.channel" EQ "$4" \
	"  AND CASE WHEN s.channel" EQ "'email'" \
	"   THEN pg_catalog.lower(s.contact COLLATE pg_catalog.\"C\")" \
	"   WHEN s.channel" EQ "'push'" \
	"   THEN " PUSH_CONTACT \
	"   ELSE s.contact END" EQ "$1" \
	"  AND ($5 IS NULL OR s.resource_id" EQ "$5) LIMIT 2) m" JOIN_PROFILE("m")

static Statement find_contact = {
	FIND_CONTACT(PUSH_CONTACT, "$1"),
	5, {TEXTOID, INT4OID, INT4OID, TEXTOID, INT4OID}
};
static Statement find_contact_1_0 = {
	FIND_CONTACT(PUSH_CONTACT_1_0, "$6"),
	6, {TEXTOID, INT4OID, INT4OID, TEXTOID, INT4OID, TEXTOID}
};

static Statement find_sub_keys = {
	"SELECT " PROFILE_COLUMNS " FROM (SELECT DISTINCT k.profile_id"
	"  FROM profimport.subscription_key k"
	"  WHERE k.key_value" EQ "$1" OF_DATABASE("k") " AND k.name" EQ "$4"
	"  AND k.resource_id" EQ "$6"
	"  AND NOT EXISTS (SELECT 1 FROM pg_catalog.unnest($5) u (key)"
	"   WHERE NOT EXISTS (SELECT 1 FROM profimport.subscription_key o"
	"    WHERE o.key_value" EQ "u.key AND o.name" EQ "$4 AND o.resource_id" EQ "$6"
	"    AND o.subscription_no" EQ "k.subscription_no"
	"    AND o.profile_id" EQ "k.profile_id" OF_DATABASE("o") ")) LIMIT 2) m" JOIN_PROFILE("m"),
	6, {TEXTOID, INT4OID, INT4OID, TEXTOID, TEXTARRAYOID, INT4OID}
};

static Statement email_taken = {
	"SELECT 1 FROM profimport.profile p"
	" WHERE pg_catalog.lower(p.email COLLATE pg_catalog.\"C\")" EQ "$1" OF_DATABASE("p")
	" AND p.profile_id" NE "$4",
	4, {TEXTOID, INT4OID, INT4OID, TEXTOID}
};

static Statement key_taken = {
	"SELECT 1 FROM profimport.profile_key k"
	" WHERE k.key_value" EQ "$1" OF_DATABASE("k") " AND k.name" EQ "$5"
	" AND k.is_unique AND k.profile_id" NE "$4 LIMIT 1",
	5, {TEXTOID, INT4OID, INT4OID, TEXTOID, TEXTOID}
};

static Statement insert_profile = {
	"INSERT INTO profimport.profile (account_id, db_id, profile_id, email, phones, data)"
	" VALUES ($1, $2, $3, $4, $5, $6)",
	6, {INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTARRAYOID, JSONBOID}
};

static Statement update_profile = {
	"UPDATE profimport.profile SET email = $3, phones = $4, data = $5,"
	" updated_at = pg_catalog.now() WHERE ctid" EQ "$1 AND xmin" EQ "$2",
	5, {TIDOID, XIDOID, TEXTOID, TEXTARRAYOID, JSONBOID}
};

static Statement lock_profile = {
	"SELECT 1 FROM profimport.profile p"
	" WHERE p.profile_id" EQ "$1" OF_DATABASE("p") " FOR KEY SHARE OF p",
	3, {TEXTOID, INT4OID, INT4OID}
};

static Statement delete_subscriptions = {
	"DELETE FROM profimport.subscription s"
	" WHERE s.profile_id" EQ "$1" OF_DATABASE("s"),
	3, {TEXTOID, INT4OID, INT4OID}
};

static Statement move_subscriptions = {
	"UPDATE profimport.subscription s SET profile_id = $4, db_id = $5, account_id = $6"
	" WHERE s.profile_id" EQ "$1" OF_DATABASE("s"),
	6, {TEXTOID, INT4OID, INT4OID, TEXTOID, INT4OID, INT4OID}
};

static Statement profile_unchanged = {
	"SELECT 1 FROM profimport.profile WHERE ctid" EQ "$1 AND xmin" EQ "$2",
	2, {TIDOID, XIDOID}
};

static Statement subscription_unchanged = {
	"SELECT 1 FROM profimport.subscription WHERE ctid" EQ "$1 AND xmin" EQ "$2",
	2, {TIDOID, XIDOID}
};

static Statement load_subscriptions = {
	"SELECT s.subscription_no, s.ctid, s.xmin, s.resource_id, s.channel, s.contact,"
	" s.provider, s.cc_data, s.status, s.priority, s.custom_fields, s.cats"
	" FROM profimport.subscription s WHERE s.profile_id" EQ "$1" OF_DATABASE("s")
	" ORDER BY s.subscription_no USING OPERATOR(pg_catalog.<)",
	3, {TEXTOID, INT4OID, INT4OID}
};

static Statement insert_subscription = {
	"INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id,"
	" channel, contact, provider, cc_data, status, priority, custom_fields, cats)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
	" RETURNING subscription_no",
	12, {INT4OID, INT4OID, TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID, JSONBOID,
	INT4OID, INT4OID, JSONBOID, TEXTARRAYOID}
};

static Statement update_subscription = {
	"UPDATE profimport.subscription SET status = $3, priority = $4, custom_fields = $5,"
	" cats = $6, updated_at = pg_catalog.now() WHERE ctid" EQ "$1 AND xmin" EQ "$2",
	6, {TIDOID, XIDOID, INT4OID, INT4OID, JSONBOID, TEXTARRAYOID}
};

static Statement insert_events = {
	"INSERT INTO profimport.trigger_event (event_id, kind, account_id, db_id, profile_id,"
	" subscription_no, resource_id, channel, changes, feedback_id)"
	" SELECT * FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2),"
	" pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5),"
	" pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8),"
	" pg_catalog.unnest($9), pg_catalog.unnest($10))",
	10, {INT8ARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TEXTARRAYOID,
	INT8ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, JSONBARRAYOID, TEXTARRAYOID}
};

static Statement insert_error = {
	"INSERT INTO profimport.import_error (error, error_text, sqlstate, feedback_id,"
	" account_id, db_id, body, headers) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
	8, {INT4OID, TEXTOID, TEXTOID, TEXTOID, INT4OID, INT4OID, BYTEAOID, JSONBOID}
};

static Statement insert_profile_key = {
	"INSERT INTO profimport.profile_key (key_value, name, profile_id, db_id, account_id, is_unique)"
	" VALUES ($1, $2, $3, $4, $5, $6)",
	6, {TEXTOID, TEXTOID, TEXTOID, INT4OID, INT4OID, BOOLOID}
};

static Statement delete_profile_key = {
	"DELETE FROM profimport.profile_key WHERE key_value" EQ "$1 AND name" EQ "$2"
	" AND profile_id" EQ "$3 AND db_id" EQ "$4 AND account_id" EQ "$5",
	5, {TEXTOID, TEXTOID, TEXTOID, INT4OID, INT4OID}
};

static Statement insert_subscription_key = {
	"INSERT INTO profimport.subscription_key (key_value, name, profile_id, db_id, account_id,"
	" resource_id, subscription_no) VALUES ($1, $2, $3, $4, $5, $6, $7)",
	7, {TEXTOID, TEXTOID, TEXTOID, INT4OID, INT4OID, INT4OID, INT8OID}
};

static Statement delete_subscription_key = {
	"DELETE FROM profimport.subscription_key WHERE key_value" EQ "$1 AND name" EQ "$2"
	" AND profile_id" EQ "$3 AND db_id" EQ "$4 AND account_id" EQ "$5"
	" AND resource_id" EQ "$6 AND subscription_no" EQ "$7",
	7, {TEXTOID, TEXTOID, TEXTOID, INT4OID, INT4OID, INT4OID, INT8OID}
};

/* ---- running them --------------------------------------------------------- */

/*
 * Runs a statement, at most "limit" rows (0: all), with the snapshot given or
 * with that of the transaction.  Leaves CurrentMemoryContext as it was, which
 * SPI does not.
 */
static void
run_with_snapshot(Statement *st, Datum *args, const char *nulls, long limit,
				  Snapshot snapshot)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	int			rc;

	if (st->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare_cursor(st->sql, st->nargs, st->types,
											  CURSOR_OPT_GENERIC_PLAN);

		if (plan == NULL)
			elog(ERROR, "could not prepare a statement: %s",
				 SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		st->plan = plan;
	}
	rc = SPI_execute_snapshot(st->plan, args, nulls, snapshot, InvalidSnapshot,
							  false, true, limit);
	if (rc < 0)
		elog(ERROR, "could not run a statement: %s", SPI_result_code_string(rc));

	/*
	 * A rule of the user put something, or nothing, in its place.  A plan of
	 * nothing depends on no table, so nobody would tell when the rule is
	 * gone.
	 */
	if (rc == SPI_OK_REWRITTEN)
	{
		SPI_freeplan(st->plan);
		st->plan = NULL;
	}
	MemoryContextSwitchTo(oldcontext);
}

static void
run(Statement *st, Datum *args, const char *nulls, long limit)
{
	run_with_snapshot(st, args, nulls, limit, InvalidSnapshot);
}

static Datum
column(int row, int col, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col, isnull);
}

static char *
column_text(int row, int col)
{
	bool		isnull;
	Datum		d = column(row, col, &isnull);

	return isnull ? NULL : TextDatumGetCString(d);
}

static Jsonb *
column_jsonb(int row, int col)
{
	bool		isnull;
	Datum		d = column(row, col, &isnull);

	return isnull ? NULL : DatumGetJsonbPCopy(d);
}

static void
column_version(int row, int col, ItemPointer ctid, TransactionId * xmin)
{
	bool		isnull;

	ItemPointerCopy((ItemPointer) DatumGetPointer(column(row, col, &isnull)), ctid);
	*xmin = DatumGetTransactionId(column(row, col + 1, &isnull));
}

Datum
pi_texts_to_array(const JsonbValue *strings)
{
	int			n = strings->val.array.nElems;
	Datum	   *elems = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		const JsonbValue *s = &strings->val.array.elems[i];

		elems[i] = PointerGetDatum(cstring_to_text_with_len(s->val.string.val,
															s->val.string.len));
	}
	return PointerGetDatum(construct_array(elems, n, TEXTOID, -1, false, TYPALIGN_INT));
}

static Datum
cstrings_to_array(char **strings, int n)
{
	Datum	   *elems = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elems[i] = CStringGetTextDatum(strings[i]);
	return PointerGetDatum(construct_array(elems, n, TEXTOID, -1, false, TYPALIGN_INT));
}

void
pi_array_to_texts(Datum array, JsonbValue *strings)
{
	Datum	   *elems;
	bool	   *nulls;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT,
					  &elems, &nulls, &n);
	strings->type = jbvArray;
	strings->val.array.nElems = n;
	strings->val.array.rawScalar = false;
	strings->val.array.elems = palloc(sizeof(JsonbValue) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		JsonbValue *s = &strings->val.array.elems[i];

		if (nulls[i])
		{
			s->type = jbvNull;
			continue;
		}
		s->type = jbvString;
		s->val.string.val = TextDatumGetCString(elems[i]);
		s->val.string.len = strlen(s->val.string.val);
	}
}

/* The index on contacts is that of 1.0.0. */
static bool objects_of_1_0 = false;

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
	objects_of_1_0 = version != NULL && strcmp(version, "1.0.0") == 0;

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

/* ---- finding -------------------------------------------------------------- */

static void
read_profile(int row, PiProfile *p)
{
	bool		isnull;
	Datum		d;

	p->profile_id = column_text(row, 1);
	column_version(row, 2, &p->ctid, &p->xmin);
	p->email = column_text(row, 4);
	d = column(row, 5, &isnull);
	p->has_phones = !isnull;
	if (!isnull)
		pi_array_to_texts(d, &p->phones);
	p->data = column_jsonb(row, 6);
}

/* Unites the rows of the current result with *m. */
static void
unite(PiMatches *m)
{
	for (int i = 0; i < SPI_processed && m->n < 2; i++)
	{
		char	   *id = column_text(i, 1);

		if (m->n == 1 && strcmp(id, m->profile.profile_id) == 0)
			continue;
		if (m->n++ == 0)
			read_profile(i, &m->profile);
	}
	SPI_freetuptable(SPI_tuptable);
}

static char *
lower_ascii(const char *s)
{
	char	   *result = pstrdup(s);

	for (char *p = result; *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p += 'a' - 'A';
	return result;
}

void
pi_find_email_field(const PiDatabase *db, const char *email, PiMatches *m)
{
	Datum		args[3] = {CStringGetTextDatum(lower_ascii(email)),
	Int32GetDatum(db->db_id), Int32GetDatum(db->account_id)};

	run(&find_email, args, NULL, 2);
	unite(m);
}

void
pi_find_id(const PiDatabase *db, const char *profile_id, PiMatches *m)
{
	Datum		args[3] = {CStringGetTextDatum(profile_id),
	Int32GetDatum(db->db_id), Int32GetDatum(db->account_id)};

	run(&find_id, args, NULL, 1);
	unite(m);
}

void
pi_find_key(const PiDatabase *db, const char *name, char **keys, int nkeys, PiMatches *m)
{
	Datum		args[5] = {CStringGetTextDatum(keys[0]),
	Int32GetDatum(db->db_id), Int32GetDatum(db->account_id), CStringGetTextDatum(name)};

	if (nkeys > 1)
		args[4] = cstrings_to_array(keys + 1, nkeys - 1);
	run(nkeys > 1 ? &find_keys : &find_key, args, NULL, 2);
	unite(m);
}

void
pi_find_contact(const PiDatabase *db, const char *channel, const char *contact_key,
				int resource_id, PiMatches *m)
{
	Datum		args[6] = {CStringGetTextDatum(contact_key),
		Int32GetDatum(db->db_id), Int32GetDatum(db->account_id),
	CStringGetTextDatum(channel), Int32GetDatum(resource_id)};

	if (objects_of_1_0)
		args[5] = CStringGetTextDatum(pi_contact_key_1_0(channel, contact_key));
	run(objects_of_1_0 ? &find_contact_1_0 : &find_contact, args,
		resource_id == 0 ? "    n " : NULL, 2);
	unite(m);
}

void
pi_find_sub_key(const PiDatabase *db, const char *name, char **keys, int nkeys,
				int resource_id, PiMatches *m)
{
	Datum		args[6] = {CStringGetTextDatum(keys[0]),
		Int32GetDatum(db->db_id), Int32GetDatum(db->account_id),
		CStringGetTextDatum(name), cstrings_to_array(keys + 1, nkeys - 1),
	Int32GetDatum(resource_id)};

	run(&find_sub_keys, args, NULL, 2);
	unite(m);
}

bool
pi_email_taken(const PiDatabase *db, const char *email, const char *profile_id)
{
	Datum		args[4] = {CStringGetTextDatum(lower_ascii(email)),
		Int32GetDatum(db->db_id), Int32GetDatum(db->account_id),
	CStringGetTextDatum(profile_id)};

	run(&email_taken, args, NULL, 1);
	return SPI_processed > 0;
}

bool
pi_key_taken(const PiDatabase *db, const char *name, const char *key, const char *profile_id)
{
	Datum		args[5] = {CStringGetTextDatum(key),
		Int32GetDatum(db->db_id), Int32GetDatum(db->account_id),
	CStringGetTextDatum(profile_id), CStringGetTextDatum(name)};

	run(&key_taken, args, NULL, 1);
	return SPI_processed > 0;
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
version_is_gone(Statement *unchanged, const ItemPointerData * ctid, TransactionId xmin,
				const char *table)
{
	Datum		args[2] = {PointerGetDatum(ctid), TransactionIdGetDatum(xmin)};

	run(unchanged, args, NULL, 1);
	if (SPI_processed > 0)
		pi_row_was_swallowed(table);
	return true;
}

/* Runs a write whose values the engine has checked. */
static void
run_write(Statement *st, Datum *args, const char *nulls)
{
	bool		save_writes = engine_writes;
	int			save_depth = engine_depth;

	/* a trigger of the user may import, too */
	engine_writes = true;
	engine_depth = trigger_depth();
	PG_TRY();
	{
		run(st, args, nulls, 0);
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

	run(&load_subscriptions, args, NULL, 0);
	n = SPI_processed;
	*subs = palloc0(sizeof(PiSubscription) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		PiSubscription *s = &(*subs)[i];
		bool		isnull;
		JsonbValue	cats;

		s->subscription_no = DatumGetInt64(column(i, 1, &isnull));
		column_version(i, 2, &s->ctid, &s->xmin);
		s->resource_id = DatumGetInt32(column(i, 4, &isnull));
		s->channel = column_text(i, 5);
		s->contact = column_text(i, 6);
		s->provider = column_text(i, 7);
		s->cc_data = column_jsonb(i, 8);
		s->status = DatumGetInt32(column(i, 9, &isnull));
		s->priority = DatumGetInt32(column(i, 10, &isnull));
		s->custom_fields = column_jsonb(i, 11);
		pi_array_to_texts(column(i, 12, &isnull), &cats);
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
	args[11] = cstrings_to_array(sub->cats, sub->ncats);
	run_write(&insert_subscription, args, nulls);
	if (SPI_processed == 0)
		pi_row_was_swallowed("subscription");
	sub->subscription_no = DatumGetInt64(column(0, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
}

bool
pi_update_subscription(const PiSubscription *sub)
{
	Datum		args[6] = {PointerGetDatum(&sub->ctid), TransactionIdGetDatum(sub->xmin),
		Int32GetDatum(sub->status), Int32GetDatum(sub->priority),
	JsonbPGetDatum(sub->custom_fields), cstrings_to_array(sub->cats, sub->ncats)};

	run_write(&update_subscription, args, NULL);
	return SPI_processed > 0 ||
		!version_is_gone(&subscription_unchanged, &sub->ctid, sub->xmin, "subscription");
}

static Datum
build_array(Datum *elems, bool *nulls, int n, Oid type)
{
	int16		typlen;
	bool		typbyval;
	char		typalign;
	int			lbound = 1;

	get_typlenbyvalalign(type, &typlen, &typbyval, &typalign);
	return PointerGetDatum(construct_md_array(elems, nulls, 1, &n, &lbound, type,
											  typlen, typbyval, typalign));
}

void
pi_insert_events(const PiEventRow *events, int n)
{
	Datum	   *col[10];
	bool	   *no_sub = palloc(sizeof(bool) * n);
	Datum		args[10];

	for (int c = 0; c < 10; c++)
		col[c] = palloc0(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		const PiEventRow *e = &events[i];

		no_sub[i] = e->subscription_no == 0;
		col[0][i] = Int64GetDatum(e->event_id);
		col[1][i] = CStringGetTextDatum(e->kind);
		col[2][i] = Int32GetDatum(e->account_id);
		col[3][i] = Int32GetDatum(e->db_id);
		col[4][i] = CStringGetTextDatum(e->profile_id);
		col[5][i] = Int64GetDatum(e->subscription_no);
		col[6][i] = Int32GetDatum(e->resource_id);
		col[7][i] = no_sub[i] ? (Datum) 0 : CStringGetTextDatum(e->channel);
		col[8][i] = JsonbPGetDatum(e->changes);
		col[9][i] = CStringGetTextDatum(e->feedback_id);
	}
	args[0] = build_array(col[0], NULL, n, INT8OID);
	args[1] = build_array(col[1], NULL, n, TEXTOID);
	args[2] = build_array(col[2], NULL, n, INT4OID);
	args[3] = build_array(col[3], NULL, n, INT4OID);
	args[4] = build_array(col[4], NULL, n, TEXTOID);
	args[5] = build_array(col[5], no_sub, n, INT8OID);
	args[6] = build_array(col[6], no_sub, n, INT4OID);
	args[7] = build_array(col[7], no_sub, n, TEXTOID);
	args[8] = build_array(col[8], NULL, n, JSONBOID);
	args[9] = build_array(col[9], NULL, n, TEXTOID);
	run(&insert_events, args, NULL, 0);
}

int64
pi_next_event_id(void)
{
	Oid			nsp = get_namespace_oid("profimport", false);

	return nextval_internal(get_relname_relid("trigger_event_event_id_seq", nsp), false);
}

void
pi_insert_error(int error, const char *error_text, const char *sqlstate,
				const char *feedback_id, int account_id, int db_id,
				const char *body, size_t len, Jsonb *headers)
{
	Datum		args[8] = {Int32GetDatum(error), CStringGetTextDatum(error_text)};
	char		nulls[9] = "        ";

	args[2] = text_or_null(sqlstate[0] ? sqlstate : NULL, &nulls[2]);
	args[3] = CStringGetTextDatum(feedback_id);
	args[4] = Int32GetDatum(account_id);
	if (account_id == 0)
		nulls[4] = 'n';
	args[5] = Int32GetDatum(db_id);
	if (db_id == 0)
		nulls[5] = 'n';
	args[6] = PointerGetDatum(cstring_to_text_with_len(body, len));
	if (headers)
		args[7] = JsonbPGetDatum(headers);
	else
		nulls[7] = 'n';
	run(&insert_error, args, nulls, 0);
}

/* ---- keys ------------------------------------------------------------------ */

/*
 * Keys and subscriptions are kept whoever writes the row they belong to: as the
 * owner of the tables, and in whatever isolation level with what is committed
 * by now, as foreign keys do it.
 */
static void
run_as_owner(Statement *st, Datum *args)
{
	Oid			save_userid;
	int			save_sec_context;

	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(pi_owner(), save_sec_context | SECURITY_LOCAL_USERID_CHANGE);
	run_with_snapshot(st, args, NULL, 0,
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
