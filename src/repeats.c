/*-------------------------------------------------------------------------
 *
 * repeats.c
 *		Messages that were applied before.
 *
 * NOTES
 *		Three records can tell, and they are asked in this order:
 *
 *		batch    Digests of deliveries, body and properties, that may come
 *				 back because their acknowledgement is not known to have
 *				 arrived.  Asked only for deliveries flagged redelivered.
 *				 Counted: each one that comes back uses up one entry, and is
 *				 entered into the record of its new batch.  The result is in
 *				 the old record, or has arrived.
 *				 Only records of the same queue and virtual host count.  The
 *				 broker may be another by name: the nodes of a cluster to
 *				 which nobody gave a name announce one each.
 *				 A record of another worker whose connection is open does not
 *				 count, since nothing of an open connection comes back; but
 *				 that worker may not have noticed yet that the broker closed
 *				 it.  So one waits until the other has learnt whether its
 *				 acknowledgement arrived: then the record loses its digests,
 *				 or it is one of a connection that has died.
 *		dedup    message_id and body of messages imported with error 0.
 *				 Asked for every delivery that carries a message_id.  Holds
 *				 the result, which is sent again.
 *		applied  Bodies of messages imported with error 0 that carry a
 *				 feedback_id but no message_id.  Asked only for deliveries
 *				 flagged redelivered: a broker that was killed returns
 *				 messages whose acknowledgement it had seen.  Two equal
 *				 bodies have equal feedback_ids, so the digest of the body is
 *				 enough.  Packed, a row per batch, and read from end to end:
 *				 normal running only pays for writing it.
 *
 *		Locks: a batch holds "importing" in share mode to its end.  One with
 *		redelivered messages takes it exclusively for a moment before it
 *		looks: then every batch that began before has ended.  Together with a
 *		look at the connection after the lock was taken (apply.c), this keeps
 *		two workers from applying one message when the broker closes the
 *		connection of the first and hands the message to the second.
 *
 * IDENTIFICATION
 *		src/repeats.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "body.h"
#include "compat.h"
#include "libpq/pqformat.h"
#include "pack.h"
#include "repeats.h"
#include "settings.h"
#include "shmem.h"
#include "sql.h"
#include "storage/lock.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* First byte of applied.entries. */
#define FORMAT_VERSION 1

/*
 * Advisory locks of the user have 1 or 2 in the fourth field of their tag,
 * so this can meet none of them.
 */
#define IMPORTING_LOCK 0x5069

/* How many rows one purge takes. */
#define PURGE_DEDUP 5000
#define PURGE_APPLIED 200

/* An item that is looked for by a digest; a hash entry. */
typedef struct Wanted
{
	uint8		digest[PI_DIGEST_LEN];	/* key */
	int			first;			/* index of the first item still unmatched, or
								 * -1 */
} Wanted;

static PiSql digests_sql = {
	.text = "SELECT batch_id, digests, coalesce(worker, 0)"
	" FROM profimport.batch WHERE digests <> '' ORDER BY batch_id",
	.nargs = 0
};

static PiSql lock_digests_sql = {
	.text = "SELECT batch_id, digests FROM profimport.batch"
	" WHERE batch_id = ANY ($1) ORDER BY batch_id FOR UPDATE",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

static PiSql use_up_sql = {
	.text = "UPDATE profimport.batch SET digests = $2 WHERE batch_id = $1",
	.nargs = 2,
	.argtypes = {INT8OID, BYTEAOID}
};

static PiSql used_up_sql = {
	.text = "DELETE FROM profimport.batch"
	" WHERE batch_id = $1 AND outgoing IS NULL",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static PiSql dedup_find_sql = {
	.text = "SELECT digest, applied_at, result FROM profimport.dedup"
	" WHERE digest = ANY ($1)",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

/*
 * A row that is too old to count is taken over; one that counts is a message
 * that another worker has just imported.
 */
static PiSql dedup_remember_sql = {
	.text = "INSERT INTO profimport.dedup AS d (digest, applied_at, result)"
	" SELECT digest, now(), result FROM unnest($1, $2) AS n (digest, result)"
	" ORDER BY digest"
	" ON CONFLICT (digest) DO UPDATE SET applied_at = excluded.applied_at,"
	" result = excluded.result"
	" WHERE d.applied_at <= now() - make_interval(secs => $3)",
	.nargs = 3,
	.argtypes = {UUIDARRAYOID, BYTEAARRAYOID, INT4OID}
};

static PiSql applied_find_sql = {
	.text = "SELECT entries FROM profimport.applied"
	" WHERE $1 OR applied_at > now() - make_interval(secs => $2)",
	.nargs = 2,
	.argtypes = {BOOLOID, INT4OID}
};

static PiSql applied_remember_sql = {
	.text = "INSERT INTO profimport.applied (batch_id, applied_at, entries)"
	" VALUES ($1, now(), $2) ON CONFLICT (batch_id) DO NOTHING",
	.nargs = 2,
	.argtypes = {INT8OID, BYTEAOID}
};

/* The numbers of batches start anew, and theirs is taken. */
static PiSql applied_apart_sql = {
	.text = "INSERT INTO profimport.applied (batch_id, applied_at, entries)"
	" SELECT least(min(batch_id), 0) - 1, now(), $1 FROM profimport.applied"
	" ON CONFLICT (batch_id) DO NOTHING",
	.nargs = 1,
	.argtypes = {BYTEAOID}
};

static PiSql dedup_purge_sql = {
	.text = "DELETE FROM profimport.dedup WHERE digest IN"
	" (SELECT digest FROM profimport.dedup"
	" WHERE applied_at <= now() - make_interval(secs => $1)"
	" ORDER BY applied_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
	.nargs = 2,
	.argtypes = {INT4OID, INT8OID}
};

static PiSql applied_purge_sql = {
	.text = "DELETE FROM profimport.applied WHERE batch_id IN"
	" (SELECT batch_id FROM profimport.applied"
	" WHERE applied_at <= now() - make_interval(secs => $1)"
	" ORDER BY batch_id LIMIT $2 FOR UPDATE SKIP LOCKED)",
	.nargs = 2,
	.argtypes = {INT4OID, INT8OID}
};

static PiSql any_sql = {
	.text = "SELECT 1 WHERE EXISTS (SELECT FROM profimport.dedup)"
	" OR EXISTS (SELECT FROM profimport.applied)",
	.nargs = 0
};

void
pi_repeats_enter(bool wait)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, IMPORTING_LOCK);
	if (wait)
		(void) LockAcquire(&tag, ExclusiveLock, false, false);
	(void) LockAcquire(&tag, ShareLock, false, false);
	if (wait)
		LockRelease(&tag, ExclusiveLock, false);
}

/* ---- what is looked for --------------------------------------------- */

static HTAB *
create_wanted(int n)
{
	HASHCTL		ctl;

	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = PI_DIGEST_LEN;
	ctl.entrysize = sizeof(Wanted);
	ctl.hcxt = CurrentMemoryContext;
	return hash_create("profimport wanted digests", n, &ctl,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/*
 * Enters item i in front of those with the same digest; "next" links them.
 * Entered from the last to the first, the first that came is the first that
 * is matched.
 */
static void
want(HTAB *wanted, const uint8 *digest, int i, int *next)
{
	bool		found;
	Wanted	   *w = (Wanted *) hash_search(wanted, digest, HASH_ENTER, &found);

	next[i] = found ? w->first : -1;
	w->first = i;
}

static Wanted *
find_wanted(HTAB *wanted, const void *digest)
{
	Wanted	   *w = (Wanted *) hash_search(wanted, digest, HASH_FIND, NULL);

	return (w != NULL && w->first >= 0) ? w : NULL;
}

/* ---- deliveries that came back -------------------------------------- */

static int
compare_int64(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return (x > y) - (x < y);
}

/*
 * Is the record that of another worker whose connection is open?  What that
 * connection delivered does not come back as long as it is.
 */
static bool
is_open_elsewhere(int64 batch_id, int worker)
{
	int64		first;

	if (worker == 0 || worker == pi_my_worker + 1)
		return false;
	first = pi_open_batches(worker - 1);
	return first != 0 && batch_id >= first;
}

/*
 * The records that have one of the wanted digests: those of connections that
 * have died, or those of other workers whose connections are open.
 */
static int
find_records(HTAB *wanted, PiRepeatScope *scope, bool elsewhere,
			 int64 **batch_ids, int *nothers)
{
	SPITupleTable *tuples;
	uint64		nrows = pi_sql(&digests_sql, NULL, NULL);
	int			nfound = 0;
	int64		newest = 0;

	tuples = SPI_tuptable;
	*batch_ids = (int64 *) palloc(sizeof(int64) * Max(nrows, 1));
	for (uint64 row = 0; row < nrows; row++)
	{
		int64		batch_id;
		Datum		stored;
		bytea	   *digests;
		PiSource	source;
		char	   *p;
		int			n;

		batch_id = DatumGetInt64(pi_sql_column(row, 1));
		newest = Max(newest, batch_id);
		if (bsearch(&batch_id, scope->live, scope->nlive, sizeof(int64),
					compare_int64))
			continue;
		if (is_open_elsewhere(batch_id,
							  DatumGetInt32(pi_sql_column(row, 3))) != elsewhere)
		{
			(*nothers)++;
			continue;
		}
		if (elsewhere && scope->horizon != 0 && batch_id > scope->horizon)
			continue;
		stored = pi_sql_column(row, 2);
		digests = DatumGetByteaPP(stored);
		p = VARDATA_ANY(digests);
		n = pi_journal_digests(digests, &source);
		if (!pi_batch_same_queue(source, scope->source))
			n = 0;
		for (int i = 0; i < n; i++)
		{
			if (find_wanted(wanted, p + i * PI_DIGEST_LEN))
			{
				(*batch_ids)[nfound++] = batch_id;
				break;
			}
		}
		if ((Pointer) digests != DatumGetPointer(stored))
			pfree(digests);
	}
	SPI_freetuptable(tuples);
	if (elsewhere && scope->horizon == 0)
		scope->horizon = newest;
	return nfound;
}

/* Takes the wanted digests out of the records and marks the items. */
static void
use_up(HTAB *wanted, int *next, const int64 *batch_ids, int nfound,
	   PiRepeats *repeats)
{
	static const uint8 zeros[PI_DIGEST_LEN];
	Datum		ids = pi_sql_int8s(batch_ids, nfound);
	uint64		nrows = pi_sql(&lock_digests_sql, &ids, NULL);
	SPITupleTable *tuples = SPI_tuptable;

	for (uint64 row = 0; row < nrows; row++)
	{
		Datum		values[2];
		bytea	   *digests;
		PiSource	source;
		char	   *p;
		int			n;
		bool		changed = false;
		bool		left = false;

		SPI_tuptable = tuples;
		values[0] = pi_sql_column(row, 1);
		digests = DatumGetByteaPCopy(pi_sql_column(row, 2));
		p = VARDATA(digests);
		n = pi_journal_digests(digests, &source);
		for (int i = 0; i < n; i++)
		{
			char	   *slot = p + i * PI_DIGEST_LEN;
			Wanted	   *w;

			if (memcmp(slot, zeros, PI_DIGEST_LEN) == 0)
				continue;
			w = find_wanted(wanted, slot);
			if (w == NULL)
			{
				left = true;
				continue;
			}
			repeats->verdicts[w->first] = PI_SETTLED;
			repeats->nsettled++;
			w->first = next[w->first];
			memset(slot, 0, PI_DIGEST_LEN);
			changed = true;
		}
		if (!changed)
			continue;
		if (!left)
		{
			if (pi_sql(&used_up_sql, values, NULL) > 0)
				continue;
			SET_VARSIZE(digests, VARHDRSZ);
		}
		values[1] = PointerGetDatum(digests);
		pi_sql(&use_up_sql, values, NULL);
	}
}

static void
find_in_batches(const PiArrival *items, int n, PiRepeatScope *scope,
				PiRepeats *repeats)
{
	HTAB	   *wanted = create_wanted(n);
	int		   *next = (int *) palloc(sizeof(int) * n);
	int64	   *batch_ids;
	int			nfound;
	int			nothers = 0;

	for (int i = n - 1; i >= 0; i--)
	{
		if (items[i].delivery.redelivered)
			want(wanted, items[i].digest, i, next);
	}
	nfound = find_records(wanted, scope, false, &batch_ids, &nothers);
	if (nfound > 0)
		use_up(wanted, next, batch_ids, nfound, repeats);
	if (nothers > 0)
	{
		nfound = find_records(wanted, scope, true, &batch_ids, &nothers);
		if (nfound > 0 && scope->decide)
			use_up(wanted, next, batch_ids, nfound, repeats);
		else if (nfound > 0)
			scope->undecided = true;
	}
	hash_destroy(wanted);
}

/* ---- messages with a message_id ------------------------------------- */

static bool
old_enough_to_forget(TimestampTz applied_at)
{
	return applied_at <= GetCurrentTransactionStartTimestamp() -
		(int64) pi_dedup_window * USECS_PER_SEC;
}

/*
 * Sets answers[i] (kind not 0) of the items that are remembered.  Of those
 * that are not, no two equal ones may be imported in one transaction: whether
 * the second is a repeat depends on what comes of the first.  So *n ends in
 * front of the second.
 */
static void
find_in_dedup(const PiArrival *items, int *n, bool all_kept, PiOut *answers)
{
	HTAB	   *wanted = create_wanted(*n);
	int		   *next = (int *) palloc(sizeof(int) * *n);
	uint8	   *digests = (uint8 *) palloc((Size) *n * PI_DIGEST_LEN);
	int			ndigests = 0;
	SPITupleTable *tuples;
	uint64		nrows;
	Datum		value;

	for (int i = *n - 1; i >= 0; i--)
	{
		if (!items[i].has_message_id)
			continue;
		want(wanted, items[i].id_digest, i, next);
		memcpy(digests + (Size) ndigests * PI_DIGEST_LEN, items[i].id_digest,
			   PI_DIGEST_LEN);
		ndigests++;
	}

	value = pi_sql_digests(digests, ndigests);
	nrows = pi_sql(&dedup_find_sql, &value, NULL);
	tuples = SPI_tuptable;
	for (uint64 row = 0; row < nrows; row++)
	{
		pg_uuid_t  *digest = DatumGetUUIDP(pi_sql_column(row, 1));
		TimestampTz applied_at = DatumGetTimestampTz(pi_sql_column(row, 2));
		bool		too_old = old_enough_to_forget(applied_at);
		Wanted	   *w = find_wanted(wanted, digest->data);
		bytea	   *result;

		if (w == NULL || (too_old && !all_kept))
			continue;
		result = DatumGetByteaPP(pi_sql_column(row, 3));
		for (int i = w->first; i >= 0; i = next[i])
		{
			StringInfoData buf;

			/* a record past its window only counts for what came back */
			if (too_old && !items[i].delivery.redelivered)
				continue;
			buf.data = VARDATA_ANY(result);
			buf.len = VARSIZE_ANY_EXHDR(result);
			buf.maxlen = buf.len;
			buf.cursor = 0;
			pi_unpack_out(&buf, &answers[i], NULL);
			/* the first result, for whoever sent it again */
			answers[i].correlation_id = pi_batch_correlation(&items[i], NULL);
		}
	}
	SPI_freetuptable(tuples);

	for (int i = 0; i < *n; i++)
	{
		Wanted	   *w;

		if (!items[i].has_message_id || answers[i].kind != 0)
			continue;
		w = find_wanted(wanted, items[i].id_digest);
		while (answers[w->first].kind != 0)
			w->first = next[w->first];
		if (w->first != i)
		{
			*n = i;
			break;
		}
	}
	hash_destroy(wanted);
}

/* ---- messages with a feedback_id ------------------------------------ */

static const JsonbValue *
member(const JsonbValue *object, const char *key)
{
	size_t		len = strlen(key);

	for (int i = 0; i < object->val.object.nPairs; i++)
	{
		const JsonbPair *pair = &object->val.object.pairs[i];

		if (pair->key.val.string.len == len &&
			memcmp(pair->key.val.string.val, key, len) == 0)
			return &pair->value;
	}
	return NULL;
}

static char *
string_member(const JsonbValue *object, const char *key)
{
	const JsonbValue *value = member(object, key);

	if (value == NULL || value->type != jbvString)
		return NULL;
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/*
 * The result of a message that was imported with error 0, written again.
 * False if the body cannot be read after all.
 */
static bool
rebuild_answer(const PiArrival *item, const char *message_id, PiOutcome outcome,
			   const char *profile_id, PiOut *answer)
{
	PiResult	result;
	PiBody		body;
	char	   *feedback_id;
	char	   *matching;

	pi_body_parse(item->delivery.body, item->delivery.len, &body);
	if (body.root == NULL)
		return false;
	feedback_id = string_member(body.root, "feedback_id");
	matching = string_member(body.root, "matching");

	memset(&result, 0, sizeof(result));
	result.error_text = "";
	result.feedback_id = feedback_id ? feedback_id : "";
	result.matching_field = matching ? matching : "email";
	result.profile_id = profile_id;
	result.outcome = outcome;
	result.matching = result.matching_field;

	answer->kind = PI_OUT_RESULT;
	answer->message_id = pstrdup(message_id);
	answer->correlation_id = pi_batch_correlation(item, feedback_id);
	answer->label = pstrdup(pi_outcome_name(outcome));
	answer->body = pi_result_json(&result);
	answer->len = strlen(answer->body);
	return true;
}

static void
find_in_entries(bytea *entries, HTAB *wanted, int *next, const PiArrival *items,
				PiRepeats *repeats)
{
	StringInfoData buf;
	char		prefix[33];

	buf.data = VARDATA_ANY(entries);
	buf.len = VARSIZE_ANY_EXHDR(entries);
	buf.maxlen = buf.len;
	buf.cursor = 0;
	if (pq_getmsgbyte(&buf) != FORMAT_VERSION)
		return;
	memcpy(prefix, pq_getmsgbytes(&buf, 32), 32);
	prefix[32] = '\0';

	while (buf.cursor < buf.len)
	{
		const char *digest = pq_getmsgbytes(&buf, PI_DIGEST_LEN);
		int			ordinal = (int) pq_getmsgint(&buf, 4);
		PiOutcome	outcome = (PiOutcome) pq_getmsgbyte(&buf);
		int			len = pq_getmsgbyte(&buf);
		const char *bytes = pq_getmsgbytes(&buf, len);
		Wanted	   *w = find_wanted(wanted, digest);
		char	   *message_id;
		char	   *profile_id;

		if (w == NULL)
			continue;
		message_id = psprintf("%s-%d", prefix, ordinal);
		profile_id = pnstrdup(bytes, len);
		for (; w->first >= 0; w->first = next[w->first])
		{
			if (!rebuild_answer(&items[w->first], message_id, outcome,
								profile_id, &repeats->answers[w->first]))
				continue;
			repeats->verdicts[w->first] = PI_REPEATED;
			repeats->nrepeated++;
		}
	}
}

static void
find_in_applied(const PiArrival *items, int n, bool all_kept, PiRepeats *repeats)
{
	HTAB	   *wanted = NULL;
	int		   *next = NULL;
	SPITupleTable *tuples;
	uint64		nrows;
	Datum		values[2];

	for (int i = n - 1; i >= 0; i--)
	{
		if (!items[i].delivery.redelivered || items[i].has_message_id ||
			repeats->verdicts[i] != PI_FRESH)
			continue;
		if (wanted == NULL)
		{
			wanted = create_wanted(n);
			next = (int *) palloc(sizeof(int) * n);
		}
		want(wanted, items[i].body_digest, i, next);
	}
	if (wanted == NULL)
		return;

	values[0] = BoolGetDatum(all_kept);
	values[1] = Int32GetDatum(pi_dedup_window);
	nrows = pi_sql(&applied_find_sql, values, NULL);
	tuples = SPI_tuptable;
	for (uint64 row = 0; row < nrows; row++)
	{
		Datum		stored = pi_sql_column(row, 1);
		bytea	   *entries = DatumGetByteaPP(stored);

		find_in_entries(entries, wanted, next, items, repeats);
		if ((Pointer) entries != DatumGetPointer(stored))
			pfree(entries);
	}
	SPI_freetuptable(tuples);
	hash_destroy(wanted);
}

void
pi_repeats_find(const PiArrival *items, int *n, PiRepeatScope *scope,
				PiRepeats *repeats)
{
	bool		redelivered = false;
	bool		message_ids = false;

	repeats->verdicts = (PiVerdict *) palloc0(sizeof(PiVerdict) * *n);
	repeats->answers = (PiOut *) palloc0(sizeof(PiOut) * *n);
	repeats->nsettled = 0;
	repeats->nrepeated = 0;
	for (int i = 0; i < *n; i++)
	{
		redelivered |= items[i].delivery.redelivered;
		message_ids |= items[i].has_message_id;
	}

	/* First, because it may lower *n, and find_in_batches() leaves marks. */
	if (message_ids && pi_dedup_window > 0)
		find_in_dedup(items, n, scope->all_kept, repeats->answers);
	if (redelivered)
		find_in_batches(items, *n, scope, repeats);
	for (int i = 0; i < *n; i++)
	{
		if (repeats->answers[i].kind == 0 || repeats->verdicts[i] != PI_FRESH)
			continue;
		repeats->verdicts[i] = PI_REPEATED;
		repeats->nrepeated++;
	}
	if (redelivered && pi_dedup_window > 0)
		find_in_applied(items, *n, scope->all_kept, repeats);
}

/* ---- remembering ---------------------------------------------------- */

static void
remember_message_ids(const PiArrival *items, int n, const PiResult **results,
					 const PiOut **outs)
{
	uint8	   *digests = (uint8 *) palloc((Size) n * PI_DIGEST_LEN);
	Datum	   *packed = (Datum *) palloc(sizeof(Datum) * n);
	Datum		values[3];
	int			count = 0;

	for (int i = 0; i < n; i++)
	{
		StringInfoData buf;

		if (!items[i].has_message_id || results[i] == NULL ||
			results[i]->error != 0)
			continue;
		memcpy(digests + (Size) count * PI_DIGEST_LEN, items[i].id_digest,
			   PI_DIGEST_LEN);
		initStringInfo(&buf);
		appendStringInfoSpaces(&buf, VARHDRSZ);
		pi_pack_out(&buf, outs[i], NULL);
		SET_VARSIZE(buf.data, buf.len);
		packed[count++] = PointerGetDatum(buf.data);
	}
	if (count == 0)
		return;
	values[0] = pi_sql_digests(digests, count);
	values[1] = PointerGetDatum(construct_array(packed, count, BYTEAOID, -1, false,
												TYPALIGN_INT));
	values[2] = Int32GetDatum(pi_dedup_window);
	if (pi_sql(&dedup_remember_sql, values, NULL) != (uint64) count)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("another worker has just imported a message with the same message_id")));
}

static void
remember_bodies(int64 batch_id, const char *prefix, const PiArrival *items,
				int n, const PiResult **results)
{
	StringInfoData buf;
	Datum		values[2];
	bool		any = false;

	for (int i = 0; i < n; i++)
	{
		size_t		len;

		if (items[i].has_message_id || results[i] == NULL ||
			results[i]->error != 0 || results[i]->feedback_id[0] == '\0')
			continue;
		if (!any)
		{
			initStringInfo(&buf);
			enlargeStringInfo(&buf, 64 * n);
			appendStringInfoSpaces(&buf, VARHDRSZ);
			pq_sendint8(&buf, FORMAT_VERSION);
			appendBinaryStringInfo(&buf, prefix, 32);
			any = true;
		}
		len = strlen(results[i]->profile_id);
		if (len > 255)
			continue;			/* no import makes such an id */
		appendBinaryStringInfo(&buf, (const char *) items[i].body_digest,
							   PI_DIGEST_LEN);
		pq_sendint32(&buf, (uint32) (i + 1));
		pq_sendint8(&buf, (uint8) results[i]->outcome);
		pq_sendint8(&buf, (uint8) len);
		appendBinaryStringInfo(&buf, results[i]->profile_id, (int) len);
	}
	if (!any)
		return;
	SET_VARSIZE(buf.data, buf.len);
	values[0] = Int64GetDatum(batch_id);
	values[1] = PointerGetDatum(buf.data);
	if (pi_sql(&applied_remember_sql, values, NULL) == 0 &&
		pi_sql(&applied_apart_sql, &values[1], NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("another worker has just taken the same number")));
}

void
pi_repeats_remember(int64 batch_id, const char *prefix, const PiArrival *items,
					int n, const PiResult **results, const PiOut **outs)
{
	if (pi_dedup_window == 0)
		return;
	remember_message_ids(items, n, results, outs);
	remember_bodies(batch_id, prefix, items, n, results);
}

bool
pi_repeats_purge(int seconds)
{
	Datum		values[2];
	bool		more = false;

	values[0] = Int32GetDatum(seconds);
	values[1] = Int64GetDatum(PURGE_DEDUP);
	more |= pi_sql(&dedup_purge_sql, values, NULL) >= PURGE_DEDUP;
	values[1] = Int64GetDatum(PURGE_APPLIED);
	more |= pi_sql(&applied_purge_sql, values, NULL) >= PURGE_APPLIED;
	return more;
}

bool
pi_repeats_any(void)
{
	return pi_sql(&any_sql, NULL, NULL) > 0;
}
