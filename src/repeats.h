/*-------------------------------------------------------------------------
 *
 * repeats.h
 *		Messages that were applied before.
 *
 * SQL only; knows no AMQP connection.  Everything here needs a transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_REPEATS_H
#define PI_REPEATS_H

#include "batch.h"
#include "engine.h"
#include "journal.h"

typedef enum PiVerdict
{
	PI_FRESH,					/* to be imported */
	PI_SETTLED,					/* applied; its record sees to the result */
	PI_REPEATED					/* applied; to be answered again */
} PiVerdict;

typedef struct PiRepeats
{
	PiVerdict  *verdicts;		/* one per item */
	PiOut	   *answers;		/* of the repeated ones */
	int			nsettled;
	int			nrepeated;
} PiRepeats;

/*
 * Takes part in the order of batches: to be called first in the transaction
 * of a batch.  "wait" is needed if any delivery is flagged redelivered: it
 * waits for the batches of other workers that began before, since one of
 * them may be applying the same message from a connection that has died.
 */
extern void pi_repeats_enter(bool wait);

/* What pi_repeats_find() must know, and what it found out besides. */
typedef struct PiRepeatScope
{
	/* our records whose deliveries cannot come back to us; ascending */
	const int64 *live;
	int			nlive;

	/* where the deliveries come from; those of other queues are not looked at */
	PiSource	source;

	/* everything in the tables counts, even if older than dedup_window */
	bool		all_kept;

	/*
	 * A delivery may equal one in a record of another worker whose connection
	 * is open, as far as that worker knows.  "decide": then it is the same
	 * one.  Otherwise "undecided" is set: the record will soon tell more.
	 * Records later than "horizon" are out of the question: they were written
	 * when the delivery was here already.  0: not known yet, and set.
	 */
	bool		decide;
	int64		horizon;
	bool		undecided;
} PiRepeatScope;

/*
 * Looks the items up.  Only what is flagged redelivered or carries a
 * message_id is looked for.
 *
 * *n may be lowered: two messages with the same message_id and body must not
 * be in one transaction, so the second one ends it.
 */
extern void pi_repeats_find(const PiArrival *items, int *n,
							PiRepeatScope *scope, PiRepeats *repeats);

/*
 * Remembers the messages of a batch that were imported.  results has one
 * entry per item, NULL for those that were not imported now; outs likewise.
 * Throws a serialization failure if another worker remembers one of them at
 * the same moment.
 */
extern void pi_repeats_remember(int64 batch_id, const char *prefix,
								const PiArrival *items, int n,
								const PiResult **results, const PiOut **outs);

/* Forgets up to a bounded number of what is older; true: there was more. */
extern bool pi_repeats_purge(int seconds);

/* True if any message is remembered. */
extern bool pi_repeats_any(void);

#endif							/* PI_REPEATS_H */
