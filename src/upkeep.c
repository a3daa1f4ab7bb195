/*-------------------------------------------------------------------------
 *
 * upkeep.c
 *		What a worker does in the tables besides importing.
 *
 * NOTES
 *		Small transactions between batches.  No result depends on them, so
 *		trouble with one is told, and it is tried again later.  Most may be
 *		lost in a crash (relaxed), which only means doing them again: a record
 *		that was forgotten and is there again is sent once more under the same
 *		message_id.
 *
 * IDENTIFICATION
 *		src/upkeep.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "compat.h"
#include "executor/spi.h"
#include "maintain.h"
#include "outbox.h"
#include "settings.h"
#include "storage/lmgr.h"
#include "upkeep.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Look for the extension so often while it is not there. */
#define ABSENT_MS 5000

/* With nothing to import for so long, records are forgotten by themselves. */
#define FORGET_MS 100

/* After trouble with a small transaction. */
#define TROUBLE_MS 10000

/* Records read at once. */
#define LOAD_RECORDS 1000

/* Trouble with one of the small transactions. */
static void
report(const char *what, PiApplyStatus status, const PiApplyResult *result)
{
	static char reported[640];
	char		text[640];

	if (status == PI_APPLY_ABSENT)
	{
		pi_consume_detach();
		return;
	}
	snprintf(text, sizeof(text), "could not %s: %s", what, result->message);
	pi_slot_set_error(text);
	if (strcmp(reported, text) == 0)
		return;
	strlcpy(reported, text, sizeof(reported));
	ereport(WARNING,
			(errcode(result->sqlerrcode),
			 errmsg("profimport worker %d %s", pi_my_worker + 1, text)));
}

/* ---- records of others ---------------------------------------------- */

/* How many records may be read; each has one message at least. */
static int
load_room(void)
{
	uint64		pending = pi_outbox_pending();

	if (pending >= pi_pending_limit())
		return 0;
	return (int) Min(pi_pending_limit() - pending, LOAD_RECORDS);
}

static void
load_records(List *records, int room)
{
	ListCell   *lc;

	foreach(lc, records)
		pi_outbox_load((PiBatchRecord *) lfirst(lc));
	if (list_length(records) >= room)
		pi_worker.records_left = true;
}

/* A row of a worker that neither runs nor will be started is nobody's. */
static void
release_records(void)
{
	int			live[PI_MAX_WORKERS_LIMIT];
	int			n = 0;

	for (int i = 0; i < pi_max_workers; i++)
	{
		PiSlot	   *slot = &pi_shared->slots[i];
		pid_t		pid;

		SpinLockAcquire(&slot->mutex);
		pid = slot->pid;
		SpinLockRelease(&slot->mutex);
		if (pid != 0 || i < pi_configured_workers())
			live[n++] = i + 1;
	}
	pi_journal_release(live, n);
}

/* What belongs to this worker and is not in memory, and what is nobody's. */
static void
load_work(void *arg)
{
	int			nknown;
	int64	   *known = pi_outbox_ids(false, &nknown);
	int			room = load_room();

	pi_worker.records_left = false;
	if (pi_my_worker == 0)
		release_records();
	load_records(pi_journal_load(pi_my_worker + 1, known, nknown, room), room);
	room = load_room();
	load_records(pi_journal_claim(pi_my_worker + 1, room), room);
}

void
pi_upkeep_claim(void)
{
	uint64		generation = pi_wake_generation();
	PiApplyResult result;
	PiApplyStatus status;
	bool		room = pi_outbox_pending() <= pi_pending_limit() / 2;

	if (generation == pi_worker.wake_generation &&
		!(pi_worker.records_left && room))
		return;
	pi_worker.wake_generation = generation;
	status = pi_apply_small(load_work, NULL, true, &result);
	if (status == PI_APPLY_DONE)
		return;

	/* nobody wakes us for the same records again */
	pi_worker.maintain_at = Min(pi_worker.maintain_at, pi_in_ms(TROUBLE_MS));
	report("take over results", status, &result);
}

/* ---- attach --------------------------------------------------------- */

static void
attach_work(void *arg)
{
	int		   *died_with = (int *) arg;

	*died_with = pi_journal_run_begins(pi_my_worker + 1,
									   pi_effective_prefetch());
	pi_worker.unsettled = pi_journal_has_unsettled(NULL, 0);
	load_work(NULL);
	pi_apply_attach();
}

static bool
attach_failed(PiApplyStatus status, const PiApplyResult *result)
{
	pi_outbox_clear();
	pi_apply_detach();
	pi_worker.attach_at = pi_in_ms(ABSENT_MS);
	pi_wake_no_later_than(pi_worker.attach_at);
	if (status == PI_APPLY_ABSENT)
		pi_set_state(PI_STATE_WAITING);
	else
	{
		report("read the tables of the extension", status, result);
		pi_set_state(PI_STATE_ERROR);
	}
	return false;
}

bool
pi_upkeep_attach(void)
{
	int			died_with = 0;
	PiApplyResult result;
	PiApplyStatus status;

	if (pi_worker.attached)
		return true;
	if (!pi_is_time(pi_worker.attach_at))
		return false;

	pi_worker.wake_generation = pi_wake_generation();
	status = pi_apply_small(attach_work, &died_with, false, &result);
	if (status != PI_APPLY_DONE)
		return attach_failed(status, &result);

	if (!pi_worker.begun && died_with > 0)
	{
		ereport(LOG,
				(errmsg("profimport worker %d did not end cleanly the last time",
						pi_my_worker + 1),
				 errdetail("The next %d redelivered messages are imported one at a time.",
						   died_with)));
		pi_feed_be_careful(&pi_worker.feed, died_with);
	}
	pi_worker.begun = true;
	pi_worker.noted_prefetch = pi_effective_prefetch();
	pi_worker.attached = true;
	pi_worker.maintain_at = 0;
	return true;
}

static void
note_work(void *arg)
{
	(void) pi_journal_run_begins(pi_my_worker + 1, pi_effective_prefetch());
}

void
pi_upkeep_note_prefetch(void)
{
	PiApplyResult result;
	PiApplyStatus status;

	if (pi_worker.noted_prefetch == pi_effective_prefetch())
		return;
	status = pi_apply_small(note_work, NULL, false, &result);
	if (status == PI_APPLY_DONE)
		pi_worker.noted_prefetch = pi_effective_prefetch();
	else
		report("note how many deliveries it may hold", status, &result);
}

/* ---- settle, forget, maintain --------------------------------------- */

static void
settle_work(void *arg)
{
	int			nlive;
	int64	   *live = pi_outbox_ids(true, &nlive);
	int			n;
	int64	   *settled = pi_journal_settle(pi_worker.source, live, nlive, &n);

	pi_outbox_settle(settled, n);
}

void
pi_upkeep_settle(void)
{
	PiApplyResult result;
	PiApplyStatus status;

	if (pi_worker.settling != PI_SETTLING_SURE ||
		!pi_feed_empty(&pi_worker.feed))
		return;
	pi_worker.settling = PI_SETTLING_NOT;
	status = pi_apply_small(settle_work, NULL, true, &result);
	if (status == PI_APPLY_DONE)
		pi_worker.unsettled = false;
	else
		report("forget deliveries", status, &result);
}

void
pi_upkeep_forget(void)
{
	TimestampTz at;
	PiApplyResult result;
	PiApplyStatus status;

	/* a worker that waits for others does not keep others waiting */
	if (!pi_feed_empty(&pi_worker.feed) &&
		pi_worker.feed.undecided_since == 0)
		return;
	at = pi_outbox_settled_at();
	if (at == 0)
		return;
	at = Max(at, pi_worker.last_batch_at + FORGET_MS * INT64CONST(1000));
	at = Max(at, pi_worker.forget_at);
	if (!pi_is_time(at))
		return;
	status = pi_apply_forget(&result);
	if (status != PI_APPLY_DONE)
	{
		pi_worker.forget_at = pi_in_ms(TROUBLE_MS);
		pi_wake_no_later_than(pi_worker.forget_at);
		report("forget settled batches", status, &result);
	}
	pgstat_report_stat(true);
}

static void
maintain_work(void *arg)
{
	if (pi_my_worker == 0)
		pi_maintain(arg);

	/* rows may have come by other ways than through this process: a restore */
	load_work(NULL);
}

void
pi_upkeep_maintain(void)
{
	PiMaintenance m = {false, 3600 * 1000};
	PiApplyResult result;
	PiApplyStatus status;

	if (!pi_feed_empty(&pi_worker.feed) || !pi_is_time(pi_worker.maintain_at))
		return;
	m.forget_repeats = pi_worker.consumer.conn != NULL && !pi_all_kept();
	status = pi_apply_small(maintain_work, &m, true, &result);
	if (status != PI_APPLY_DONE)
	{
		m.next_ms = 60 * 1000;
		report("remove old rows", status, &result);
	}
	pi_worker.maintain_at = pi_in_ms(m.next_ms);
	pi_wake_no_later_than(pi_worker.maintain_at);
}

/* ---- the end -------------------------------------------------------- */

/* A lock on a table of the extension, if it is to be had at once. */
static bool
lock_at_once(const char *name)
{
	Oid			schema = get_namespace_oid("profimport", true);
	Oid			table;

	if (!OidIsValid(schema))
		return false;
	table = get_relname_relid(name, schema);
	return OidIsValid(table) &&
		ConditionalLockRelationOid(table, RowExclusiveLock);
}

/*
 * Tells the next process what has arrived, so that it is not sent again, and
 * which deliveries cannot come back; and if the end is clean, that this
 * process did not die of a message.  Runs while the process exits, so it must
 * not wait for a lock.
 */
void
pi_upkeep_note_end(bool clean)
{
	PiSettled	settled;
	ListCell   *lc;

	AbortOutOfAnyTransaction();
	StartTransactionCommand();
	if (!pi_apply_may_note_end() || !lock_at_once("worker_run") ||
		!lock_at_once("attempt") || !lock_at_once("batch"))
	{
		AbortCurrentTransaction();
		return;
	}
	SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_OVERRIDE);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	PushActiveSnapshot(GetTransactionSnapshot());
	if (clean)
	{
		pi_journal_run_ends(pi_my_worker + 1);
		pi_feed_undo_attempt(&pi_worker.feed);
	}
	pi_outbox_settled(&settled);
	pi_journal_end_delete(settled.done, settled.ndone);
	pi_journal_end_acknowledged(settled.acknowledged, settled.nacknowledged);
	foreach(lc, pi_outbox_partial())
		pi_journal_end_keep((PiBatchRecord *) lfirst(lc));
	pi_journal_end_release(pi_my_worker + 1, LOAD_RECORDS);
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
}
