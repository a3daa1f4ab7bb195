/*-------------------------------------------------------------------------
 *
 * journal.h
 *		The batch record: what makes effects happen once and results arrive.
 *
 * Table profimport.batch: one row per batch, written in the batch's own
 * transaction.  It holds a digest of every delivery of the batch (until the
 * acknowledgement is known to have arrived) and everything the batch wants
 * published (until the broker has confirmed it).
 *
 * SQL only; knows no AMQP connection.  Everything here needs a transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_JOURNAL_H
#define PI_JOURNAL_H

#include "batch.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* A message to publish, as stored and as handed to the outbox. */
typedef enum PiOutKind
{
	PI_OUT_RESULT = 'r',
	PI_OUT_EVENT = 't'
} PiOutKind;

typedef struct PiOut
{
	PiOutKind	kind;
	char	   *message_id;		/* stable */
	char	   *correlation_id; /* NULL: none */
	char	   *label;			/* result: outcome; event: kind */
	char	   *body;			/* JSON text */
	int			len;
} PiOut;

typedef struct PiBatchRecord
{
	int64		batch_id;
	TimestampTz committed_at;
	bool		has_digests;	/* deliveries of it may come back */
	char	   *event_queue;	/* where its events go if trigger_queue is not
								 * set any more; "" if it has none */
	int			nout;
	PiOut	   *out;
} PiBatchRecord;

/* A random, unique prefix for message ids: 32 hex digits. */
extern void pi_journal_new_uuid(char *buf33);

/* For SQL functions: a record without digests that any worker publishes. */
extern int64 pi_journal_add_outgoing(const PiOut *out, int nout);

/*
 * For the worker (its number as people see it, from 1).  ndigests digests of
 * PI_DIGEST_LEN bytes, all of deliveries from this source.
 */
extern int64 pi_journal_insert(int worker, PiSource source,
							   const uint8 *digests, int ndigests,
							   const PiOut *out, int nout);

/*
 * How many digests there are in front of what batch.digests holds, and of
 * which source: 0 if an older version wrote it.
 */
extern int	pi_journal_digests(const bytea *stored, PiSource *source);

/* Records whose deliveries cannot come back and whose results arrived. */
extern void pi_journal_delete(const int64 *batch_ids, int n);

/*
 * At the end of the process, without waiting for locks: the same; and keeps
 * only the messages given of those that a record has outgoing.
 */
extern void pi_journal_end_delete(const int64 *batch_ids, int n);
extern void pi_journal_end_keep(const PiBatchRecord *record);

/*
 * What still waits, up to so many records, belongs to whoever comes first:
 * this worker may not be started again.
 */
extern void pi_journal_end_release(int worker, int limit);

/* For the end of the process: records whose deliveries cannot come back. */
extern void pi_journal_end_acknowledged(const int64 *batch_ids, int n);

/* Records whose results arrived, but whose deliveries may come back. */
extern void pi_journal_arrived(const int64 *batch_ids, int n);

/* Records whose deliveries cannot come back, but which wait for a confirm. */
extern void pi_journal_acknowledged(const int64 *batch_ids, int n);

/*
 * Nothing that this source delivered before can come back any more: forgets
 * its digests, and those of unknown source, but for the records listed.
 * Returns, in CurrentMemoryContext, the records that still have something
 * outgoing and were not without digests before.
 */
extern int64 *pi_journal_settle(PiSource source, const int64 *except, int n,
								int *nsettled);

/* Deliveries applied so long ago do not come back any more. */
extern void pi_journal_expire(int seconds);

/* True if a record exists whose deliveries may come back, listed ones apart. */
extern bool pi_journal_has_unsettled(const int64 *except, int n);

/*
 * Up to limit records with something outgoing, in a List of PiBatchRecord
 * allocated in CurrentMemoryContext: those of this worker that are not
 * listed; those of nobody, which become this worker's.
 */
extern List *pi_journal_load(int worker, const int64 *except, int n, int limit);
extern List *pi_journal_claim(int worker, int limit);

/* Makes what belongs to workers that are not listed belong to nobody. */
extern void pi_journal_release(const int *live_workers, int n);

/* ---- the end of the process before ---------------------------------- */

/*
 * Notes that this worker runs, and how many deliveries it may hold.  Returns
 * how many the one before could hold if it did not end cleanly, else 0.
 */
extern int	pi_journal_run_begins(int worker, int prefetch);
extern void pi_journal_run_ends(int worker);

/*
 * Records that a delivery is about to be imported alone; returns how many
 * workers it has cost already (the unclean end before the first attempt
 * counts as one).
 */
extern int	pi_journal_attempt(const uint8 *digest);
extern void pi_journal_attempt_over(const uint8 *digest);

/* The worker ends, but not of this delivery. */
extern void pi_journal_attempt_undone(const uint8 *digest);

#endif							/* PI_JOURNAL_H */
