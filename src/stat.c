/*-------------------------------------------------------------------------
 *
 * stat.c
 *		The functions behind the views stat_worker, stat_result, stat_minute
 *		and status.
 *
 * NOTES
 *		Slots are copied under their lock and formatted afterwards.  What is
 *		unknown is NULL.
 *
 *		How many messages are in the queue is known to the broker only, and a
 *		worker that polled for it all the time would never be idle.  So the
 *		one who looks at status asks: connected workers are woken, send a
 *		passive declare, and whoever waits here is told.  The wait is short;
 *		a worker in the middle of a batch answers the next one.
 *
 *		The C names end in the version of the SQL interface they serve: a
 *		library that is newer than the installed extension still has to.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "mb/pg_wchar.h"
#include "settings.h"
#include "shmem.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(pi_stat_worker_1_0);
PG_FUNCTION_INFO_V1(pi_stat_result_1_0);
PG_FUNCTION_INFO_V1(pi_stat_status_1_0);
PG_FUNCTION_INFO_V1(pi_stat_reset_1_0);
PG_FUNCTION_INFO_V1(pi_stat_minute_1_1);

/* SPEC.md: a depth older than this is not shown. */
#define QUEUE_MAX_AGE_MS	10000

/* One that is older than this is asked for anew ... */
#define QUEUE_FRESH_MS		1000

/* ... and the answer awaited so long, if there is nothing or something else */
#define QUEUE_WAIT_MS		500
#define QUEUE_SHORT_WAIT_MS	200

/* A row under construction; columns are appended from left to right. */
#define MAX_COLUMNS 24

typedef struct PiRow
{
	Datum		values[MAX_COLUMNS];
	bool		nulls[MAX_COLUMNS];
	int			n;
} PiRow;

static void
put(PiRow *row, Datum value)
{
	Assert(row->n < MAX_COLUMNS);
	row->values[row->n] = value;
	row->nulls[row->n++] = false;
}

static void
put_null(PiRow *row)
{
	Assert(row->n < MAX_COLUMNS);
	row->values[row->n] = (Datum) 0;
	row->nulls[row->n++] = true;
}

static void
put_count(PiRow *row, uint64 value)
{
	put(row, Int64GetDatum((int64) value));
}

static void
put_time(PiRow *row, TimestampTz value)
{
	if (value == 0)
		put_null(row);
	else
		put(row, TimestampTzGetDatum(value));
}

/*
 * A message of the server may be in the encoding of another database, or of
 * none: what is no text here loses its non-ASCII bytes.
 */
static void
put_text(PiRow *row, char *value)
{
	if (value[0] == '\0')
	{
		put_null(row);
		return;
	}

	if (!pg_verifymbstr(value, strlen(value), true))
	{
		char	   *p;

		for (p = value; *p; p++)
			if (IS_HIGHBIT_SET(*p))
				*p = '?';
	}
	put(row, CStringGetTextDatum(value));
}

static void
copy_slot(int i, PiSlot *copy)
{
	PiSlot	   *slot = &pi_shared->slots[i];

	SpinLockAcquire(&slot->mutex);
	memcpy(copy, slot, sizeof(PiSlot));
	SpinLockRelease(&slot->mutex);
}

static void
worker_row(PiRow *row, int i, PiSlot *slot, TimestampTz stats_reset)
{
	bool		runs = slot->pid != 0;
	PiWorkerState state = slot->state;

	/* the launcher may not have seen the setting yet */
	if (!runs && !pi_enabled)
		state = PI_STATE_DISABLED;
	else if (!runs && state == PI_STATE_DISABLED)
		state = PI_STATE_STOPPED;

	row->n = 0;
	put(row, Int32GetDatum(i + 1));
	if (runs)
		put(row, Int32GetDatum(slot->pid));
	else
		put_null(row);
	put(row, CStringGetTextDatum(pi_state_name(state)));
	put_text(row, slot->broker);
	put_time(row, slot->connected_since);
	put(row, BoolGetDatum(slot->blocked));
	put_count(row, slot->c.messages);
	put_count(row, slot->c.succeeded);
	put_count(row, slot->c.failed);
	put_count(row, slot->c.redelivered);
	put_count(row, slot->c.duplicates);
	put_count(row, slot->c.batches);
	put_count(row, slot->c.results_published);
	put_count(row, slot->results_pending);
	put_count(row, slot->c.trigger_events);
	put_count(row, slot->c.connects);
	put_time(row, slot->last_batch_at);
	if (slot->last_batch_at != 0)
	{
		put(row, Int32GetDatum(slot->last_batch_messages));
		put(row, Float8GetDatum(slot->last_batch_ms));
	}
	else
	{
		put_null(row);
		put_null(row);
	}
	put_text(row, slot->last_error);
	put_time(row, slot->last_error_at);
	put_time(row, stats_reset);
}

Datum
pi_stat_worker_1_0(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = pi_init_srf(fcinfo);
	TimestampTz stats_reset;
	PiSlot	   *slot;
	PiRow		row;
	int			n;
	int			i;

	if (pi_shared == NULL)
		return (Datum) 0;

	SpinLockAcquire(&pi_shared->mutex);
	stats_reset = pi_shared->stats_reset;
	SpinLockRelease(&pi_shared->mutex);

	slot = palloc(sizeof(PiSlot));
	n = pi_configured_workers();
	for (i = 0; i < n; i++)
	{
		copy_slot(i, slot);
		worker_row(&row, i, slot, stats_reset);
		Assert(row.n == rsinfo->setDesc->natts);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc,
							 row.values, row.nulls);
	}

	return (Datum) 0;
}

/*
 * A row per code and outcome that can occur, so that a graph of a counter
 * begins at zero and not at its first increment.
 */
Datum
pi_stat_result_1_0(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = pi_init_srf(fcinfo);
	uint64		by_code[PI_NUM_CODES][PI_NUM_OUTCOMES];
	PiRow		row;
	int			code;
	int			outcome;

	if (pi_shared == NULL)
		return (Datum) 0;

	SpinLockAcquire(&pi_shared->mutex);
	memcpy(by_code, pi_shared->by_code, sizeof(by_code));
	SpinLockRelease(&pi_shared->mutex);

	for (code = 0; code < PI_NUM_CODES; code++)
		for (outcome = 0; outcome < PI_NUM_OUTCOMES; outcome++)
		{
			if ((pi_code_at(code) == 0) == (outcome == PI_FAILED))
				continue;

			row.n = 0;
			put(&row, Int32GetDatum(pi_code_at(code)));
			put(&row, CStringGetTextDatum(pi_outcome_name(outcome)));
			put_count(&row, by_code[code][outcome]);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc,
								 row.values, row.nulls);
		}

	return (Datum) 0;
}

Datum
pi_stat_minute_1_1(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = pi_init_srf(fcinfo);
	PiMinute   *cells = NULL;
	PiRow		row;
	int			n = pi_minute_copy(&cells);

	for (int i = 0; i < n; i++)
	{
		const PiMinute *cell = &cells[i];

		row.n = 0;
		put_time(&row, cell->minute * PI_MINUTE_USECS);
		put_count(&row, cell->messages);
		put_count(&row, cell->succeeded);
		put_count(&row, cell->failed);
		put_count(&row, cell->created);
		put_count(&row, cell->updated);
		put_count(&row, cell->unchanged);
		put_count(&row, cell->redelivered);
		put_count(&row, cell->duplicates);
		put_count(&row, cell->batches);
		put_count(&row, cell->results_published);
		put_count(&row, cell->trigger_events);
		put(&row, Float8GetDatum(cell->import_ms));
		put(&row, Float8GetDatum(cell->longest_batch_ms));
		put_count(&row, cell->retries);
		put_count(&row, cell->connects);
		Assert(row.n == rsinfo->setDesc->natts);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc,
							 row.values, row.nulls);
	}

	return (Datum) 0;
}

/* What status shows of all workers together. */
typedef struct PiSummary
{
	int			running;
	int			connected;
	TimestampTz queue_seen_at;	/* the latest; 0: never */
	uint32		queue_messages;
	uint32		queue_consumers;
	uint64		recent;			/* messages of the last PI_RATE_SECONDS */
} PiSummary;

static void
summarize(PiSummary *sum)
{
	int64		now_s = GetCurrentTimestamp() / USECS_PER_SEC;
	PiSlot	   *slot = palloc(sizeof(PiSlot));
	int			i;
	int			j;

	memset(sum, 0, sizeof(*sum));

	/* also workers beyond the present setting: what they did counts */
	for (i = 0; i < pi_max_workers; i++)
	{
		copy_slot(i, slot);
		if (slot->pid != 0)
			sum->running++;
		if (slot->pid != 0 && slot->connected_since != 0)
			sum->connected++;
		if (slot->queue_seen_at > sum->queue_seen_at)
		{
			sum->queue_seen_at = slot->queue_seen_at;
			sum->queue_messages = slot->queue_messages;
			sum->queue_consumers = slot->queue_consumers;
		}
		for (j = 0; j < PI_RATE_SECONDS; j++)
			if (now_s - slot->rate_second[j] < PI_RATE_SECONDS)
				sum->recent += slot->rate_count[j];
	}
	pfree(slot);
}

static bool
queue_is_known(const PiSummary *sum, int max_age_ms)
{
	return sum->queue_seen_at != 0 &&
		!TimestampDifferenceExceeds(sum->queue_seen_at, GetCurrentTimestamp(),
									max_age_ms);
}

/* Asks the connected workers for the queue depth. */
static void
request_queue(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int			i;

	SpinLockAcquire(&pi_shared->mutex);
	pi_shared->queue_wanted_at = now;
	SpinLockRelease(&pi_shared->mutex);

	for (i = 0; i < pi_max_workers; i++)
	{
		PiSlot	   *slot = &pi_shared->slots[i];
		Latch	   *latch;

		SpinLockAcquire(&slot->mutex);
		latch = slot->connected_since != 0 ? slot->latch : NULL;
		SpinLockRelease(&slot->mutex);

		if (latch != NULL)
			SetLatch(latch);
	}
}

/* Fills *sum; waits for the queue depth if it is too old. */
static void
summarize_fresh(PiSummary *sum)
{
	static uint32 wait_event = 0;
	TimestampTz asked_at;
	TimestampTz deadline;
	int			wait_ms = QUEUE_WAIT_MS;

	summarize(sum);
	if (sum->connected == 0 || queue_is_known(sum, QUEUE_FRESH_MS))
		return;
	if (queue_is_known(sum, QUEUE_MAX_AGE_MS))
		wait_ms = QUEUE_SHORT_WAIT_MS;

	asked_at = GetCurrentTimestamp();
	deadline = TimestampTzPlusMilliseconds(asked_at, wait_ms);
	request_queue();

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("ProfimportQueueDepth");
	ConditionVariablePrepareToSleep(&pi_shared->queue_cv);
	for (;;)
	{
		long		left;

		summarize(sum);
		if (sum->connected == 0 || sum->queue_seen_at >= asked_at)
			break;
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
		if (left <= 0)
			break;
		(void) ConditionVariableTimedSleep(&pi_shared->queue_cv, left,
										   wait_event);
	}
	ConditionVariableCancelSleep();
}

Datum
pi_stat_status_1_0(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = pi_init_srf(fcinfo);
	PiSummary	sum;
	PiRow		row;

	memset(&sum, 0, sizeof(sum));
	if (pi_shared != NULL)
		summarize_fresh(&sum);

	row.n = 0;
	put(&row, BoolGetDatum(pi_enabled));
	put(&row, Int32GetDatum(pi_configured_workers()));
	put(&row, Int32GetDatum(sum.running));
	put(&row, Int32GetDatum(sum.connected));
	if (queue_is_known(&sum, QUEUE_MAX_AGE_MS))
	{
		put_count(&row, sum.queue_messages);
		put(&row, Int32GetDatum((int32) sum.queue_consumers));
	}
	else
	{
		put_null(&row);
		put_null(&row);
	}
	if (pi_shared != NULL)
		put(&row, Float8GetDatum((double) sum.recent / PI_RATE_SECONDS));
	else
		put_null(&row);

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc,
						 row.values, row.nulls);
	return (Datum) 0;
}

/* Zeroes what counts; times, states and the last error stay. */
Datum
pi_stat_reset_1_0(PG_FUNCTION_ARGS)
{
	TimestampTz now = GetCurrentTimestamp();
	int			i;

	if (pi_shared == NULL)
		PG_RETURN_VOID();

	for (i = 0; i < pi_max_workers; i++)
	{
		PiSlot	   *slot = &pi_shared->slots[i];

		SpinLockAcquire(&slot->mutex);
		memset(&slot->c, 0, sizeof(slot->c));
		SpinLockRelease(&slot->mutex);
	}

	SpinLockAcquire(&pi_shared->mutex);
	memset(pi_shared->by_code, 0, sizeof(pi_shared->by_code));
	pi_shared->stats_reset = now;
	SpinLockRelease(&pi_shared->mutex);

	pi_minute_reset();
	PG_RETURN_VOID();
}
