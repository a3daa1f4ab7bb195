/*-------------------------------------------------------------------------
 *
 * find.c
 *		The searches: every statement by which profiles are found.
 *
 * NOTES
 *		Nothing is locked to read: a profile comes with ctid and xmin of the
 *		version that was seen, and a later update names them (store.c).
 *
 *		Setting a statement up and shutting it down costs more than to find
 *		one row.  So a batch looks for all its emails at once (ahead).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"

#include "compat.h"
#include "find.h"
#include "statement.h"
#include "textnorm.h"

#define PROFILE_COLUMNS "p.profile_id, p.ctid, p.xmin, p.email, p.phones, p.data"
/*
 * OFFSET 0 costs nothing, and makes it one probe of the primary key for each.
 * A plan made while the table was empty, and kept, was found to join by
 * reading all profiles of the database.
 */
#define JOIN_PROFILE(alias) \
	", LATERAL (SELECT " PROFILE_COLUMNS " FROM profimport.profile p" \
	" WHERE p.profile_id" EQ alias ".profile_id" \
	OF_DATABASE("p") " OFFSET 0) p"

/* In the searches $1 is the value, $2 the database, $3 the account. */

static PiStatement find_email = {
	"SELECT " PROFILE_COLUMNS " FROM profimport.profile p"
	" WHERE pg_catalog.lower(p.email COLLATE pg_catalog.\"C\")" EQ "$1" OF_DATABASE("p"),
	3, {TEXTOID, INT4OID, INT4OID}
};

/*
 * One probe of the index for each, whatever the planner believes: LIMIT keeps
 * the subquery from being joined in any other way, such as by reading all of
 * an index.  In a database an email occurs once.
 */
static PiStatement find_emails = {
	"SELECT m.*, i FROM pg_catalog.generate_series(1, pg_catalog.cardinality($1)) i,"
	" LATERAL (SELECT " PROFILE_COLUMNS " FROM profimport.profile p"
	"  WHERE pg_catalog.lower(p.email COLLATE pg_catalog.\"C\")" EQ "$1[i]"
	"  AND p.db_id" EQ "$2[i] AND p.account_id" EQ "$3[i] LIMIT 1) m",
	3, {TEXTARRAYOID, INT4ARRAYOID, INT4ARRAYOID}
};

static PiStatement find_id = {
	"SELECT " PROFILE_COLUMNS " FROM profimport.profile p"
	" WHERE p.profile_id" EQ "$1" OF_DATABASE("p"),
	3, {TEXTOID, INT4OID, INT4OID}
};

static PiStatement find_key = {
	"SELECT " PROFILE_COLUMNS " FROM profimport.profile_key k" JOIN_PROFILE("k")
	" WHERE k.key_value" EQ "$1" OF_DATABASE("k") " AND k.name" EQ "$4"
	" LIMIT 2",
	4, {TEXTOID, INT4OID, INT4OID, TEXTOID}
};

/*
 * Tags: profiles with the first key that have all the others too.  OFFSET 0
 * as above: probes, and no join that reads all keys of that name.
 */
static PiStatement find_keys = {
	"SELECT " PROFILE_COLUMNS " FROM profimport.profile_key k" JOIN_PROFILE("k")
	" WHERE k.key_value" EQ "$1" OF_DATABASE("k") " AND k.name" EQ "$4"
	" AND NOT EXISTS (SELECT 1 FROM pg_catalog.unnest($5) u (key)"
	"  WHERE NOT EXISTS (SELECT 1 FROM profimport.profile_key o"
	"   WHERE o.key_value" EQ "u.key AND o.name" EQ "$4"
	"   AND o.profile_id" EQ "k.profile_id" OF_DATABASE("o") " OFFSET 0) OFFSET 0)"
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

static PiStatement find_contact = {
	FIND_CONTACT(PUSH_CONTACT, "$1"),
	5, {TEXTOID, INT4OID, INT4OID, TEXTOID, INT4OID}
};
static PiStatement find_contact_1_0 = {
	FIND_CONTACT(PUSH_CONTACT_1_0, "$6"),
	6, {TEXTOID, INT4OID, INT4OID, TEXTOID, INT4OID, TEXTOID}
};

static PiStatement find_sub_keys = {
	"SELECT " PROFILE_COLUMNS " FROM (SELECT DISTINCT k.profile_id"
	"  FROM profimport.subscription_key k"
	"  WHERE k.key_value" EQ "$1" OF_DATABASE("k") " AND k.name" EQ "$4"
	"  AND k.resource_id" EQ "$6"
	"  AND NOT EXISTS (SELECT 1 FROM pg_catalog.unnest($5) u (key)"
	"   WHERE NOT EXISTS (SELECT 1 FROM profimport.subscription_key o"
	"    WHERE o.key_value" EQ "u.key AND o.name" EQ "$4 AND o.resource_id" EQ "$6"
	"    AND o.subscription_no" EQ "k.subscription_no"
	"    AND o.profile_id" EQ "k.profile_id" OF_DATABASE("o") " OFFSET 0) OFFSET 0) LIMIT 2) m"
	JOIN_PROFILE("m"),
	6, {TEXTOID, INT4OID, INT4OID, TEXTOID, TEXTARRAYOID, INT4OID}
};

static PiStatement email_taken = {
	"SELECT 1 FROM profimport.profile p"
	" WHERE pg_catalog.lower(p.email COLLATE pg_catalog.\"C\")" EQ "$1" OF_DATABASE("p")
	" AND p.profile_id" NE "$4",
	4, {TEXTOID, INT4OID, INT4OID, TEXTOID}
};

static PiStatement key_taken = {
	"SELECT 1 FROM profimport.profile_key k"
	" WHERE k.key_value" EQ "$1" OF_DATABASE("k") " AND k.name" EQ "$5"
	" AND k.is_unique AND k.profile_id" NE "$4 LIMIT 1",
	5, {TEXTOID, INT4OID, INT4OID, TEXTOID, TEXTOID}
};

static void
read_profile(int row, PiProfile *p)
{
	bool		isnull;
	Datum		d;

	p->profile_id = pi_column_text(row, 1);
	pi_column_version(row, 2, &p->ctid, &p->xmin);
	p->email = pi_column_text(row, 4);
	d = pi_column(row, 5, &isnull);
	p->has_phones = !isnull;
	if (!isnull)
		pi_array_to_texts(d, &p->phones);
	p->data = pi_column_jsonb(row, 6);
}

static void
unite_row(int row, PiMatches *m)
{
	if (m->n == 1 && strcmp(pi_column_text(row, 1), m->profile.profile_id) == 0)
		return;
	if (m->n++ == 0)
		read_profile(row, &m->profile);
}

/* Unites the rows of the current result with *m. */
static void
unite(PiMatches *m)
{
	for (int i = 0; i < SPI_processed && m->n < 2; i++)
		unite_row(i, m);
	SPI_freetuptable(SPI_tuptable);
}

/* ---- ahead ---------------------------------------------------------------- */

typedef struct Ahead
{
	uint64		hash;			/* key */
	const char *email;			/* in lower case */
	int			account_id;
	int			db_id;
	int			row;			/* -1: there is none */
	bool		valid;
} Ahead;

struct PiAhead
{
	HTAB	   *entries;
	SPITupleTable *tuples;
};

static PiAhead *ahead = NULL;

static uint64
ahead_hash(const PiDatabase *db, const char *email)
{
	uint64		h = hash_bytes_extended((const unsigned char *) email, strlen(email), 0);

	h = hash_combine64(h, hash_bytes_uint32_extended(db->account_id, 1));
	return hash_combine64(h, hash_bytes_uint32_extended(db->db_id, 2));
}

static Ahead *
find_ahead(const PiDatabase *db, const char *email)
{
	uint64		hash = ahead_hash(db, email);
	Ahead	   *entry = hash_search(ahead->entries, &hash, HASH_FIND, NULL);

	if (entry == NULL || !entry->valid ||
		entry->account_id != db->account_id || entry->db_id != db->db_id ||
		strcmp(entry->email, email) != 0)
		return NULL;
	return entry;
}

PiAhead    *
pi_find_ahead_begin(void)
{
	PiAhead    *before = ahead;

	ahead = NULL;
	return before;
}

void
pi_find_ahead(const PiSought *sought, int n)
{
	PiAhead    *now = palloc0(sizeof(PiAhead));
	Ahead	  **entries = palloc(sizeof(Ahead *) * n);
	Datum	   *col[3];
	Datum		args[3];
	HASHCTL		ctl;
	int			distinct = 0;
	bool		isnull;

	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(uint64);
	ctl.entrysize = sizeof(Ahead);
	ctl.hcxt = CurrentMemoryContext;
	now->entries = hash_create("profimport emails", n, &ctl,
							   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (int c = 0; c < 3; c++)
		col[c] = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		char	   *email = pi_fold_ascii(sought[i].email, strlen(sought[i].email));
		uint64		hash = ahead_hash(sought[i].db, email);
		bool		found;
		Ahead	   *entry = hash_search(now->entries, &hash, HASH_ENTER, &found);

		if (found)
			continue;
		entry->email = email;
		entry->account_id = sought[i].db->account_id;
		entry->db_id = sought[i].db->db_id;
		entry->row = -1;
		entry->valid = true;
		col[0][distinct] = CStringGetTextDatum(email);
		col[1][distinct] = Int32GetDatum(sought[i].db->db_id);
		col[2][distinct] = Int32GetDatum(sought[i].db->account_id);
		entries[distinct++] = entry;
	}
	args[0] = pi_subscripted_array(col[0], NULL, distinct, TEXTOID);
	args[1] = pi_subscripted_array(col[1], NULL, distinct, INT4OID);
	args[2] = pi_subscripted_array(col[2], NULL, distinct, INT4OID);
	pi_run(&find_emails, args, NULL, 0);
	now->tuples = SPI_tuptable;
	for (int row = 0; row < (int) SPI_processed; row++)
		entries[DatumGetInt32(pi_column(row, 7, &isnull)) - 1]->row = row;
	ahead = now;
}

void
pi_find_ahead_end(PiAhead *before)
{
	ahead = before;
}

void
pi_find_ahead_written(const PiDatabase *db, const char *email)
{
	Ahead	   *entry;

	if (ahead != NULL && email != NULL &&
		(entry = find_ahead(db, pi_fold_ascii(email, strlen(email)))) != NULL)
		entry->valid = false;
}

/* ---- one value ------------------------------------------------------------ */

void
pi_find_email_field(const PiDatabase *db, const char *email, PiMatches *m)
{
	char	   *lower = pi_fold_ascii(email, strlen(email));
	Datum		args[3];
	Ahead	   *entry;

	if (ahead != NULL && (entry = find_ahead(db, lower)) != NULL)
	{
		/* the next time it may have been written */
		entry->valid = false;
		m->ahead = true;
		if (entry->row >= 0)
		{
			SPI_tuptable = ahead->tuples;
			unite_row(entry->row, m);
		}
		return;
	}
	args[0] = CStringGetTextDatum(lower);
	args[1] = Int32GetDatum(db->db_id);
	args[2] = Int32GetDatum(db->account_id);
	pi_run(&find_email, args, NULL, 2);
	unite(m);
}

void
pi_find_id(const PiDatabase *db, const char *profile_id, PiMatches *m)
{
	Datum		args[3] = {CStringGetTextDatum(profile_id),
	Int32GetDatum(db->db_id), Int32GetDatum(db->account_id)};

	pi_run(&find_id, args, NULL, 1);
	unite(m);
}

void
pi_find_key(const PiDatabase *db, const char *name, char **keys, int nkeys, PiMatches *m)
{
	Datum		args[5] = {CStringGetTextDatum(keys[0]),
	Int32GetDatum(db->db_id), Int32GetDatum(db->account_id), CStringGetTextDatum(name)};

	if (nkeys > 1)
		args[4] = pi_cstrings_to_array(keys + 1, nkeys - 1);
	pi_run(nkeys > 1 ? &find_keys : &find_key, args, NULL, 2);
	unite(m);
}

void
pi_find_contact(const PiDatabase *db, const char *channel, const char *contact_key,
				int resource_id, PiMatches *m)
{
	Datum		args[6] = {CStringGetTextDatum(contact_key),
		Int32GetDatum(db->db_id), Int32GetDatum(db->account_id),
	CStringGetTextDatum(channel), Int32GetDatum(resource_id)};

	if (pi_objects_of_1_0)
		args[5] = CStringGetTextDatum(pi_contact_key_1_0(channel, contact_key));
	pi_run(pi_objects_of_1_0 ? &find_contact_1_0 : &find_contact, args,
		resource_id == 0 ? "    n " : NULL, 2);
	unite(m);
}

void
pi_find_sub_key(const PiDatabase *db, const char *name, char **keys, int nkeys,
				int resource_id, PiMatches *m)
{
	Datum		args[6] = {CStringGetTextDatum(keys[0]),
		Int32GetDatum(db->db_id), Int32GetDatum(db->account_id),
		CStringGetTextDatum(name), pi_cstrings_to_array(keys + 1, nkeys - 1),
	Int32GetDatum(resource_id)};

	pi_run(&find_sub_keys, args, NULL, 2);
	unite(m);
}

bool
pi_email_taken(const PiDatabase *db, const char *email, const char *profile_id)
{
	Datum		args[4] = {CStringGetTextDatum(pi_fold_ascii(email, strlen(email))),
		Int32GetDatum(db->db_id), Int32GetDatum(db->account_id),
	CStringGetTextDatum(profile_id)};

	pi_run(&email_taken, args, NULL, 1);
	return SPI_processed > 0;
}

bool
pi_key_taken(const PiDatabase *db, const char *name, const char *key, const char *profile_id)
{
	Datum		args[5] = {CStringGetTextDatum(key),
		Int32GetDatum(db->db_id), Int32GetDatum(db->account_id),
	CStringGetTextDatum(profile_id), CStringGetTextDatum(name)};

	pi_run(&key_taken, args, NULL, 1);
	return SPI_processed > 0;
}
