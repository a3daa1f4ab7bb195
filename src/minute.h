/*-------------------------------------------------------------------------
 *
 * minute.h
 *		What the workers did in each minute of the last day: the counters
 *		behind the view stat_minute.
 *
 * Kept in PiShared, guarded by PiShared->mutex.  Nothing here is done per
 * message: a worker adds what a batch, a round of confirms or a connection
 * brought, all at once.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_MINUTE_H
#define PI_MINUTE_H

#include "datatype/timestamp.h"

/* A day and its minutes.  The test build has shorter ones. */
#ifndef PI_MINUTES
#define PI_MINUTES 1440
#endif
#ifndef PI_MINUTE_USECS
#define PI_MINUTE_USECS INT64CONST(60000000)
#endif

typedef struct PiMinute
{
	int64		minute;			/* since PostgreSQL's epoch; 0: never used */
	uint64		messages;
	uint64		succeeded;
	uint64		failed;
	uint64		created;
	uint64		updated;
	uint64		unchanged;
	uint64		redelivered;
	uint64		duplicates;
	uint64		batches;
	uint64		results_published;
	uint64		trigger_events;
	uint64		retries;
	uint64		connects;
	double		import_ms;		/* of all batches */
	double		longest_batch_ms;
} PiMinute;

/* Adds all but "minute" of this to the present minute. */
extern void pi_minute_count(const PiMinute *add);

/*
 * The cells of the last day that are in use, the oldest first.  *cells is
 * palloc'd; returns their number.
 */
extern int	pi_minute_copy(PiMinute **cells);

extern void pi_minute_reset(void);

#endif							/* PI_MINUTE_H */
