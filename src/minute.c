/*-------------------------------------------------------------------------
 *
 * minute.c
 *		What the workers did in each minute of the last day: the counters
 *		behind the view stat_minute.
 *
 * NOTES
 *		A ring with a cell for each minute of a day.  A cell belongs to the
 *		minute written in it; who finds another one there starts it anew.  So
 *		nobody has to clear what is old, a minute without traffic costs
 *		nothing, and a clock that is set back at worst reuses a cell.
 *
 *		A reader takes the lock for each cell anew: each row is of one moment,
 *		and no worker ever waits for the copying of a whole day.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "minute.h"
#include "shmem.h"
#include "utils/timestamp.h"

static int64
present_minute(void)
{
	return GetCurrentTimestamp() / PI_MINUTE_USECS;
}

void
pi_minute_count(const PiMinute *add)
{
	int64		minute;
	PiMinute   *cell;

	if (pi_shared == NULL)
		return;

	minute = present_minute();
	cell = &pi_shared->minutes[minute % PI_MINUTES];

	SpinLockAcquire(&pi_shared->mutex);
	if (cell->minute != minute)
	{
		memset(cell, 0, sizeof(PiMinute));
		cell->minute = minute;
	}
	cell->messages += add->messages;
	cell->succeeded += add->succeeded;
	cell->failed += add->failed;
	cell->created += add->created;
	cell->updated += add->updated;
	cell->unchanged += add->unchanged;
	cell->redelivered += add->redelivered;
	cell->duplicates += add->duplicates;
	cell->batches += add->batches;
	cell->results_published += add->results_published;
	cell->trigger_events += add->trigger_events;
	cell->retries += add->retries;
	cell->connects += add->connects;
	cell->import_ms += add->import_ms;
	cell->longest_batch_ms = Max(cell->longest_batch_ms, add->longest_batch_ms);
	SpinLockRelease(&pi_shared->mutex);
}

int
pi_minute_copy(PiMinute **cells)
{
	int64		last;
	int			n = 0;

	if (pi_shared == NULL)
		return 0;

	*cells = (PiMinute *) palloc(PI_MINUTES * sizeof(PiMinute));
	last = present_minute();
	for (int64 minute = last - PI_MINUTES + 1; minute <= last; minute++)
	{
		PiMinute   *cell = &pi_shared->minutes[minute % PI_MINUTES];
		PiMinute   *copy = &(*cells)[n];

		SpinLockAcquire(&pi_shared->mutex);
		memcpy(copy, cell, sizeof(PiMinute));
		SpinLockRelease(&pi_shared->mutex);
		if (copy->minute == minute)
			n++;
	}
	return n;
}

void
pi_minute_reset(void)
{
	for (int i = 0; i < PI_MINUTES; i++)
	{
		SpinLockAcquire(&pi_shared->mutex);
		memset(&pi_shared->minutes[i], 0, sizeof(PiMinute));
		SpinLockRelease(&pi_shared->mutex);
	}
}
