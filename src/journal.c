/*-------------------------------------------------------------------------
 *
 * journal.c
 *		The batch record: what makes effects happen once and results arrive.
 *
 * NOTES
 *		A row goes through these stages; each is one statement below.
 *
 *			inserted      digests of the deliveries, messages to publish
 *			acknowledged  the ack was seen by the broker's channel: no digests
 *			arrived       the broker confirmed all messages: nothing outgoing
 *			deleted       both
 *
 *		Mostly a row goes from the first to the last at once, in the
 *		transaction of a later batch.  A row whose acknowledgement stays
 *		unknown (the connection died) keeps its digests until its deliveries
 *		came back (repeats.c takes them out one by one) or the queue was seen
 *		to hold none of them (pi_journal_settle).  Queue and broker may have
 *		been changed in between, so behind the digests stands what they are
 *		digests of deliveries of.  Those of a queue that is not used any more
 *		go after a day (pi_journal_expire).
 *
 *		Numbers of workers in the tables count from 1, as in the views.
 *
 * IDENTIFICATION
 *		src/journal.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "journal.h"
#include "libpq/pqformat.h"
#include "nodes/pg_list.h"
#include "pack.h"
#include "port/pg_bswap.h"
#include "settings.h"
#include "shmem.h"
#include "sql.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/*
 * First byte of batch.outgoing.  1 was the format without pack.c's rules; what
 * follows the head says for each message which it is.
 */
#define FORMAT_VERSION 2

/* Behind the digests of batch.digests; no multiple of PI_DIGEST_LEN. */
#define PI_SOURCE_LEN ((int) sizeof(PiSource))

static PiSql insert_sql = {
	.text = "INSERT INTO profimport.batch (worker, digests, outgoing, pending)"
	" VALUES ($1, $2, $3, $4) RETURNING batch_id",
	.nargs = 4,
	.argtypes = {INT4OID, BYTEAOID, BYTEAOID, INT4OID}
};

static PiSql delete_sql = {
	.text = "DELETE FROM profimport.batch WHERE batch_id = ANY ($1)",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

/* For the end of the process, which must not wait for a lock. */
static PiSql end_delete_sql = {
	.text = "DELETE FROM profimport.batch WHERE batch_id IN"
	" (SELECT batch_id FROM profimport.batch"
	" WHERE batch_id = ANY ($1) FOR UPDATE SKIP LOCKED)",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

static PiSql end_acknowledged_sql = {
	.text = "UPDATE profimport.batch SET digests = '' WHERE batch_id IN"
	" (SELECT batch_id FROM profimport.batch"
	" WHERE batch_id = ANY ($1) AND digests <> '' FOR UPDATE SKIP LOCKED)",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

static PiSql end_keep_sql = {
	.text = "UPDATE profimport.batch SET outgoing = $2, pending = $3"
	" WHERE batch_id IN (SELECT batch_id FROM profimport.batch"
	" WHERE batch_id = $1 FOR UPDATE SKIP LOCKED)",
	.nargs = 3,
	.argtypes = {INT8OID, BYTEAOID, INT4OID}
};

static PiSql end_release_sql = {
	.text = "UPDATE profimport.batch SET worker = NULL WHERE batch_id IN"
	" (SELECT batch_id FROM profimport.batch"
	" WHERE worker = $1 AND outgoing IS NOT NULL"
	" ORDER BY batch_id LIMIT $2 FOR UPDATE SKIP LOCKED)",
	.nargs = 2,
	.argtypes = {INT4OID, INT8OID}
};

static PiSql arrived_delete_sql = {
	.text = "DELETE FROM profimport.batch"
	" WHERE batch_id = ANY ($1) AND digests = ''",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

static PiSql arrived_update_sql = {
	.text = "UPDATE profimport.batch SET outgoing = NULL, pending = 0"
	" WHERE batch_id = ANY ($1)",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

static PiSql acknowledged_sql = {
	.text = "UPDATE profimport.batch SET digests = ''"
	" WHERE batch_id = ANY ($1) AND digests <> ''",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

/* 16 is PI_DIGEST_LEN: is there a source behind the digests, and which? */
#define OF_SOURCE \
	" (length(digests) % 16 = 0" \
	" OR substr(digests, length(digests) - 7) = $2)"

static PiSql settle_delete_sql = {
	.text = "DELETE FROM profimport.batch"
	" WHERE outgoing IS NULL AND batch_id <> ALL ($1) AND" OF_SOURCE,
	.nargs = 2,
	.argtypes = {INT8ARRAYOID, BYTEAOID}
};

static PiSql settle_update_sql = {
	.text = "UPDATE profimport.batch SET digests = ''"
	" WHERE digests <> '' AND batch_id <> ALL ($1) AND" OF_SOURCE
	" RETURNING batch_id",
	.nargs = 2,
	.argtypes = {INT8ARRAYOID, BYTEAOID}
};

static PiSql unsettled_sql = {
	.text = "SELECT 1 FROM profimport.batch"
	" WHERE digests <> '' AND batch_id <> ALL ($1) LIMIT 1",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

static PiSql load_sql = {
	.text = "SELECT batch_id, committed_at, digests <> '', outgoing"
	" FROM profimport.batch"
	" WHERE worker = $1 AND outgoing IS NOT NULL AND NOT EXISTS"
	" (SELECT FROM unnest($2) AS known (id) WHERE known.id = batch_id)"
	" ORDER BY batch_id LIMIT $3",
	.nargs = 3,
	.argtypes = {INT4OID, INT8ARRAYOID, INT8OID}
};

static PiSql claim_sql = {
	.text = "UPDATE profimport.batch SET worker = $1 WHERE batch_id IN"
	" (SELECT batch_id FROM profimport.batch"
	" WHERE worker IS NULL AND outgoing IS NOT NULL"
	" ORDER BY batch_id LIMIT $2 FOR UPDATE SKIP LOCKED)"
	" RETURNING batch_id, committed_at, digests <> '', outgoing",
	.nargs = 2,
	.argtypes = {INT4OID, INT8OID}
};

static PiSql release_sql = {
	.text = "UPDATE profimport.batch SET worker = NULL"
	" WHERE outgoing IS NOT NULL AND worker <> ALL ($1)",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

static PiSql run_before_sql = {
	.text = "SELECT prefetch FROM profimport.worker_run"
	" WHERE worker = $1 AND running",
	.nargs = 1,
	.argtypes = {INT4OID}
};

static PiSql run_begins_sql = {
	.text = "INSERT INTO profimport.worker_run AS w"
	" (worker, running, prefetch, started_at)"
	" VALUES ($1, true, $2, now())"
	" ON CONFLICT (worker) DO UPDATE SET running = true,"
	" prefetch = $2, started_at = now()",
	.nargs = 2,
	.argtypes = {INT4OID, INT4OID}
};

static PiSql run_ends_sql = {
	.text = "UPDATE profimport.worker_run SET running = false WHERE worker IN"
	" (SELECT worker FROM profimport.worker_run"
	" WHERE worker = $1 FOR UPDATE SKIP LOCKED)",
	.nargs = 1,
	.argtypes = {INT4OID}
};

static PiSql old_delete_sql = {
	.text = "DELETE FROM profimport.batch WHERE outgoing IS NULL"
	" AND committed_at < now() - make_interval(secs => $1)",
	.nargs = 1,
	.argtypes = {INT4OID}
};

static PiSql old_update_sql = {
	.text = "UPDATE profimport.batch SET digests = '' WHERE digests <> ''"
	" AND committed_at < now() - make_interval(secs => $1)",
	.nargs = 1,
	.argtypes = {INT4OID}
};

/*
 * A first attempt is made because a worker died, so it counts from one: if
 * this one ends in death too, it is the second.
 */
static PiSql attempt_sql = {
	.text = "INSERT INTO profimport.attempt AS a"
	" (digest, deaths, attempted_at) SELECT d, 2, now() FROM unnest($1) d"
	" ON CONFLICT (digest) DO UPDATE SET deaths = a.deaths + 1,"
	" attempted_at = now() RETURNING deaths - 1",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static PiSql attempt_over_sql = {
	.text = "DELETE FROM profimport.attempt WHERE digest = ANY ($1)",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static PiSql attempt_undone_sql = {
	.text = "UPDATE profimport.attempt SET deaths = deaths - 1"
	" WHERE digest = ANY ($1)",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

void
pi_journal_new_uuid(char *buf33)
{
	static const char hex[] = "0123456789abcdef";
	uint8		bytes[16];

	if (!pg_strong_random(bytes, sizeof(bytes)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	for (int i = 0; i < 16; i++)
	{
		buf33[2 * i] = hex[bytes[i] >> 4];
		buf33[2 * i + 1] = hex[bytes[i] & 0x0F];
	}
	buf33[32] = '\0';
}

/* ---- packed messages ------------------------------------------------ */

/* A bytea under construction: its header is filled in by finish_bytea(). */
static void
start_bytea(StringInfo buf)
{
	initStringInfo(buf);
	appendStringInfoSpaces(buf, VARHDRSZ);
	pq_sendint8(buf, FORMAT_VERSION);
}

static Datum
finish_bytea(StringInfo buf)
{
	SET_VARSIZE(buf->data, buf->len);
	return PointerGetDatum(buf->data);
}

/* event_queue: NULL if there are no events */
static Datum
pack_outgoing(const PiOut *out, int nout, const char *event_queue)
{
	StringInfoData buf;

	start_bytea(&buf);
	pi_pack_string(&buf, event_queue);
	pq_sendint32(&buf, (uint32) nout);
	for (int i = 0; i < nout; i++)
		pi_pack_out(&buf, &out[i], i > 0 ? &out[i - 1] : NULL);
	return finish_bytea(&buf);
}

static void
unpack_record(bytea *packed, PiBatchRecord *record)
{
	StringInfoData buf;
	int			version;

	buf.data = VARDATA_ANY(packed);
	buf.len = VARSIZE_ANY_EXHDR(packed);
	buf.maxlen = buf.len;
	buf.cursor = 0;
	version = pq_getmsgbyte(&buf);
	if (version < 1 || version > FORMAT_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("record of batch %lld was written by another version of profimport",
						(long long) record->batch_id)));
	record->event_queue = pi_unpack_string(&buf);
	if (record->event_queue == NULL)
		record->event_queue = pstrdup("");
	record->nout = (int) pq_getmsgint(&buf, 4);
	record->out = (PiOut *) palloc(sizeof(PiOut) * Max(record->nout, 1));
	for (int i = 0; i < record->nout; i++)
		pi_unpack_out(&buf, &record->out[i],
					  i > 0 ? &record->out[i - 1] : NULL);
}

/* ---- the rows ------------------------------------------------------- */

static int
put_source(char *to, PiSource source)
{
	uint64		bytes = pg_hton64(source);

	memcpy(to, &bytes, PI_SOURCE_LEN);
	return PI_SOURCE_LEN;
}

static bytea *
pack_digests(PiSource source, const uint8 *digests, int ndigests)
{
	int			len = ndigests * PI_DIGEST_LEN;
	bytea	   *packed = (bytea *) palloc(VARHDRSZ + len + PI_SOURCE_LEN);

	if (len > 0)
	{
		memcpy(VARDATA(packed), digests, len);
		len += put_source(VARDATA(packed) + len, source);
	}
	SET_VARSIZE(packed, VARHDRSZ + len);
	return packed;
}

int
pi_journal_digests(const bytea *stored, PiSource *source)
{
	const char *bytes = VARDATA_ANY(stored);
	int			len = VARSIZE_ANY_EXHDR(stored);

	*source = 0;
	if (len % PI_DIGEST_LEN == PI_SOURCE_LEN)
	{
		len -= PI_SOURCE_LEN;
		memcpy(source, bytes + len, PI_SOURCE_LEN);
		*source = pg_ntoh64(*source);
	}
	return len / PI_DIGEST_LEN;
}

int64
pi_journal_insert(int worker, PiSource source, const uint8 *digests,
				  int ndigests, const PiOut *out, int nout)
{
	Datum		values[4];
	char		nulls[5] = "    ";

	if (worker > 0)
		values[0] = Int32GetDatum(worker);
	else
		nulls[0] = 'n';
	values[1] = PointerGetDatum(pack_digests(source, digests, ndigests));
	if (nout > 0)
	{
		bool		events = false;

		for (int i = 0; i < nout && !events; i++)
			events = (out[i].kind == PI_OUT_EVENT);
		values[2] = pack_outgoing(out, nout, events ? pi_trigger_queue : NULL);
	}
	else
		nulls[2] = 'n';
	values[3] = Int32GetDatum(nout);

	pi_sql(&insert_sql, values, nulls);
	return DatumGetInt64(pi_sql_column(0, 1));
}

int64
pi_journal_add_outgoing(const PiOut *out, int nout)
{
	int64		batch_id;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	batch_id = pi_journal_insert(0, 0, NULL, 0, out, nout);
	SPI_finish();
	pi_wake_workers_at_commit();
	return batch_id;
}

void
pi_journal_delete(const int64 *batch_ids, int n)
{
	Datum		ids;

	if (n == 0)
		return;
	ids = pi_sql_int8s(batch_ids, n);
	pi_sql(&delete_sql, &ids, NULL);
}

void
pi_journal_end_delete(const int64 *batch_ids, int n)
{
	Datum		ids;

	if (n == 0)
		return;
	ids = pi_sql_int8s(batch_ids, n);
	pi_sql(&end_delete_sql, &ids, NULL);
}

void
pi_journal_end_acknowledged(const int64 *batch_ids, int n)
{
	Datum		ids;

	if (n == 0)
		return;
	ids = pi_sql_int8s(batch_ids, n);
	pi_sql(&end_acknowledged_sql, &ids, NULL);
}

void
pi_journal_end_release(int worker, int limit)
{
	Datum		values[2];

	values[0] = Int32GetDatum(worker);
	values[1] = Int64GetDatum(limit);
	if (pi_sql(&end_release_sql, values, NULL) > 0)
		pi_wake_workers_at_commit();
}

void
pi_journal_end_keep(const PiBatchRecord *record)
{
	Datum		values[3];

	values[0] = Int64GetDatum(record->batch_id);
	values[1] = pack_outgoing(record->out, record->nout, record->event_queue);
	values[2] = Int32GetDatum(record->nout);
	pi_sql(&end_keep_sql, values, NULL);
}

void
pi_journal_arrived(const int64 *batch_ids, int n)
{
	Datum		ids;

	if (n == 0)
		return;
	ids = pi_sql_int8s(batch_ids, n);
	pi_sql(&arrived_delete_sql, &ids, NULL);
	pi_sql(&arrived_update_sql, &ids, NULL);
}

void
pi_journal_acknowledged(const int64 *batch_ids, int n)
{
	Datum		ids;

	if (n == 0)
		return;
	ids = pi_sql_int8s(batch_ids, n);
	pi_sql(&acknowledged_sql, &ids, NULL);
}

int64 *
pi_journal_settle(PiSource source, const int64 *except, int n, int *nsettled)
{
	bytea	   *packed = (bytea *) palloc(VARHDRSZ + PI_SOURCE_LEN);
	Datum		values[2];
	int64	   *settled;

	SET_VARSIZE(packed, VARHDRSZ + put_source(VARDATA(packed), source));
	values[0] = pi_sql_int8s(except, n);
	values[1] = PointerGetDatum(packed);
	pi_sql(&settle_delete_sql, values, NULL);
	*nsettled = (int) pi_sql(&settle_update_sql, values, NULL);
	settled = (int64 *) palloc(sizeof(int64) * Max(*nsettled, 1));
	for (int i = 0; i < *nsettled; i++)
		settled[i] = DatumGetInt64(pi_sql_column(i, 1));
	return settled;
}

bool
pi_journal_has_unsettled(const int64 *except, int n)
{
	Datum		ids = pi_sql_int8s(except, n);

	return pi_sql(&unsettled_sql, &ids, NULL) > 0;
}

void
pi_journal_expire(int seconds)
{
	Datum		value = Int32GetDatum(seconds);

	pi_sql(&old_delete_sql, &value, NULL);
	pi_sql(&old_update_sql, &value, NULL);
}

/* The rows of load_sql or claim_sql; they live in "context". */
static List *
fetch_records(MemoryContext context)
{
	SPITupleTable *tuples = SPI_tuptable;
	uint64		nrows = SPI_processed;
	List	   *records = NIL;

	for (uint64 i = 0; i < nrows; i++)
	{
		MemoryContext old;
		bytea	   *packed;
		PiBatchRecord *record;

		SPI_tuptable = tuples;
		packed = DatumGetByteaPP(pi_sql_column(i, 4));

		old = MemoryContextSwitchTo(context);
		record = (PiBatchRecord *) palloc0(sizeof(PiBatchRecord));
		record->batch_id = DatumGetInt64(pi_sql_column(i, 1));
		record->committed_at = DatumGetTimestampTz(pi_sql_column(i, 2));
		record->has_digests = DatumGetBool(pi_sql_column(i, 3));
		unpack_record(packed, record);
		records = lappend(records, record);
		MemoryContextSwitchTo(old);
	}
	return records;
}

List	   *
pi_journal_load(int worker, const int64 *except, int n, int limit)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[3];

	values[0] = Int32GetDatum(worker);
	values[1] = pi_sql_int8s(except, n);
	values[2] = Int64GetDatum(limit);
	pi_sql(&load_sql, values, NULL);
	return fetch_records(context);
}

List	   *
pi_journal_claim(int worker, int limit)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[2];

	values[0] = Int32GetDatum(worker);
	values[1] = Int64GetDatum(limit);
	pi_sql(&claim_sql, values, NULL);
	return fetch_records(context);
}

void
pi_journal_release(const int *live_workers, int n)
{
	int64	   *wide = (int64 *) palloc(sizeof(int64) * Max(n, 1));
	Datum		ids;

	for (int i = 0; i < n; i++)
		wide[i] = live_workers[i];
	ids = pi_sql_int8s(wide, n);
	pi_sql(&release_sql, &ids, NULL);
}

/* ---- the end of the process before ---------------------------------- */

int
pi_journal_run_begins(int worker, int prefetch)
{
	Datum		values[2];
	int			before = 0;

	values[0] = Int32GetDatum(worker);
	values[1] = Int32GetDatum(prefetch);
	if (pi_sql(&run_before_sql, values, NULL) > 0)
		before = DatumGetInt32(pi_sql_column(0, 1));
	pi_sql(&run_begins_sql, values, NULL);
	return before;
}

void
pi_journal_run_ends(int worker)
{
	Datum		value = Int32GetDatum(worker);

	pi_sql(&run_ends_sql, &value, NULL);
}

int
pi_journal_attempt(const uint8 *digest)
{
	Datum		value = pi_sql_digests(digest, 1);

	pi_sql(&attempt_sql, &value, NULL);
	return DatumGetInt32(pi_sql_column(0, 1));
}

void
pi_journal_attempt_over(const uint8 *digest)
{
	Datum		value = pi_sql_digests(digest, 1);

	pi_sql(&attempt_over_sql, &value, NULL);
}

void
pi_journal_attempt_undone(const uint8 *digest)
{
	Datum		value = pi_sql_digests(digest, 1);

	pi_sql(&attempt_undone_sql, &value, NULL);
}
