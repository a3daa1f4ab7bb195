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

/*
 * Looks the items up.  Only what is flagged redelivered or carries a
 * message_id is looked for.  "live" lists records, in ascending order, whose
 * deliveries cannot come back to this worker.  all_kept: everything that is
 * still in the tables counts, even if it is older than dedup_window.
 *
 * *n may be lowered: two messages with the same message_id and body must not
 * be in one transaction, so the second one ends it.
 */
extern void pi_repeats_find(const PiArrival *items, int *n,
							const int64 *live, int nlive,
							bool all_kept, PiRepeats *repeats);

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
