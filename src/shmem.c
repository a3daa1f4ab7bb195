/*-------------------------------------------------------------------------
 *
 * shmem.c
 *		Shared memory: what each worker is doing, and the counters behind the
 *		statistics views.
 *
 * NOTES
 *		See shmem.h for what guards what.
 *
 *		A slot belongs to a worker number, not to a process: counters survive
 *		the worker's restart.  Who takes a slot registers the callback that
 *		gives it back before anything else can fail, so that a slot with a pid
 *		always is a living process; after a crash the postmaster makes shared
 *		memory anew, and with it the counters.
 *
 *		What goes wrong before a worker can catch errors (connecting to the
 *		database is FATAL when it fails) would be known to the server log
 *		only.  A log hook, in worker processes only, keeps the message for
 *		stat_worker.last_error.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "shmem.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

/*
 * A server that crashes so soon after the workers were started, so often in a
 * row, gets a pause before they are started again, twice as long each time.
 */
#define QUICK_CRASH_MS		2000
#define QUICK_CRASHES		5
#define FIRST_PAUSE_MS		1000
#define LONGEST_PAUSE_MS	30000

PiShared   *pi_shared = NULL;
PiSlot	   *pi_my_slot = NULL;
int			pi_my_worker = -1;

#ifdef PI_HAVE_SHMEM_REQUEST_HOOK
static shmem_request_hook_type prev_shmem_request_hook = NULL;
#endif
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;
static emit_log_hook_type prev_emit_log_hook = NULL;

/* Last request for the queue depth this worker has taken. */
static TimestampTz queue_request_taken = 0;

/* What the current transaction wants done when it commits. */
static bool xact_callback_registered = false;
static bool wake_wanted = false;
static bool count_wanted = false;
static uint64 pending_by_code[PI_NUM_CODES][PI_NUM_OUTCOMES];

static const int codes[PI_NUM_CODES] = {0, 400, 404, 409, 500};

static const char *const state_names[] = {
	[PI_STATE_STOPPED] = "stopped",
	[PI_STATE_DISABLED] = "disabled",
	[PI_STATE_WAITING] = "waiting",
	[PI_STATE_CONNECTING] = "connecting",
	[PI_STATE_IDLE] = "idle",
	[PI_STATE_IMPORTING] = "importing",
	[PI_STATE_BLOCKED] = "blocked",
	[PI_STATE_PAUSED] = "paused",
	[PI_STATE_BACKOFF] = "backoff",
	[PI_STATE_ERROR] = "error"
};

const char *
pi_state_name(PiWorkerState state)
{
	return state_names[state];
}

int
pi_code_index(int error)
{
	int			i;

	for (i = 0; i < PI_NUM_CODES; i++)
		if (codes[i] == error)
			return i;
	return PI_NUM_CODES - 1;	/* there are no others; count it as a 500 */
}

int
pi_code_at(int index)
{
	return codes[index];
}

/* ------------------------------------------------------------------------
 * Allocation
 * ------------------------------------------------------------------------
 */

static Size
shared_size(void)
{
	return add_size(offsetof(PiShared, slots),
					mul_size(pi_max_workers, sizeof(PiSlot)));
}

static void
shmem_request(void)
{
#ifdef PI_HAVE_SHMEM_REQUEST_HOOK
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
#endif
	RequestAddinShmemSpace(shared_size());
}

/*
 * How long the launcher shall leave the workers alone.
 *
 * A worker that crashes takes all sessions with it, and the server comes back
 * in a fraction of a second.  A message that kills its worker is given up at
 * the third time, but a fault that has nothing to do with a message (in a
 * library, say) would keep the whole server from working for ever.  Only the
 * postmaster lives through a crash; that is where these variables are, and
 * where this runs, each time it makes shared memory anew.
 */
static int
crash_delay(void)
{
	static TimestampTz started_at = 0;	/* of the workers, with the delay */
	static int	crashes = 0;
	TimestampTz now = GetCurrentTimestamp();
	int			delay = 0;

	if (started_at != 0 && now < TimestampTzPlusMilliseconds(started_at,
															 QUICK_CRASH_MS))
		crashes++;
	else
		crashes = 0;

	if (crashes > QUICK_CRASHES)
		delay = Min(FIRST_PAUSE_MS << Min(crashes - QUICK_CRASHES - 1, 10),
					LONGEST_PAUSE_MS);
	started_at = TimestampTzPlusMilliseconds(now, delay);
	return delay;
}

static void
shmem_startup(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	/* called again after a crash, when the old memory is gone */
	pi_shared = NULL;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	pi_shared = ShmemInitStruct("profimport", shared_size(), &found);
	if (!found)
	{
		int			i;

		memset(pi_shared, 0, shared_size());
		SpinLockInit(&pi_shared->mutex);
		ConditionVariableInit(&pi_shared->queue_cv);
		pi_shared->stats_reset = GetCurrentTimestamp();
		pi_shared->start_delay_ms = crash_delay();
		for (i = 0; i < pi_max_workers; i++)
			SpinLockInit(&pi_shared->slots[i].mutex);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
pi_shmem_init(void)
{
#ifdef PI_HAVE_SHMEM_REQUEST_HOOK
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_request;
#else
	shmem_request();
#endif
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
}

/* ------------------------------------------------------------------------
 * The slot of this process
 * ------------------------------------------------------------------------
 */

/*
 * Copies a text, cut between characters.  Only the bytes are looked at: a
 * worker that is not connected to its database yet has no encoding.
 */
static void
copy_text(char *to, size_t size, const char *from)
{
	size_t		len = strlen(from);

	if (len >= size)
	{
		len = size - 1;
		while (len > 0 && ((unsigned char) from[len] & 0xC0) == 0x80)
			len--;
	}
	memcpy(to, from, len);
	to[len] = '\0';
}

/*
 * Keeps why the worker ends.  Messages of level FATAL come from the server's
 * own start and end of a session and hold names of roles and databases at
 * most.  An ERROR that ends the worker may quote data, so nothing but its
 * code is kept, and only if it is not dealt with (see slot_detach).
 */
static int	last_error_code = 0;
static bool told_to_stop = false;
static bool fatal_kept = false;

static void
slot_log_hook(ErrorData *edata)
{
	if (edata->elevel == FATAL && edata->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
		told_to_stop = true;
	else if (edata->elevel == FATAL && edata->message != NULL)
	{
		pi_slot_set_error(edata->message);
		fatal_kept = true;
	}
	else if (edata->elevel == ERROR)
		last_error_code = edata->sqlerrcode;

	if (prev_emit_log_hook)
		prev_emit_log_hook(edata);
}

static void
wake_launcher(void)
{
	Latch	   *latch;

	SpinLockAcquire(&pi_shared->mutex);
	latch = pi_shared->launcher_latch;
	SpinLockRelease(&pi_shared->mutex);

	if (latch != NULL)
		SetLatch(latch);
}

static void
slot_detach(int code, Datum arg)
{
	PiSlot	   *slot = pi_my_slot;
	bool		failed = code != 0 && !told_to_stop;

	if (slot == NULL)
		return;

	if (failed && !fatal_kept)
	{
		char		text[128];

		if (last_error_code != 0)
			snprintf(text, sizeof(text),
					 "worker ended with SQLSTATE %s; the server log says more",
					 unpack_sql_state(last_error_code));
		else
			snprintf(text, sizeof(text), "worker ended with exit code %d",
					 code);
		pi_slot_set_error(text);
	}

	SpinLockAcquire(&slot->mutex);
	slot->pid = 0;
	slot->wants_restart = code == 0;
	slot->latch = NULL;
	slot->open_batches = 0;
	slot->state = failed ? PI_STATE_ERROR : PI_STATE_STOPPED;
	slot->connected_since = 0;
	slot->broker[0] = '\0';
	slot->blocked = false;
	slot->results_pending = 0;
	SpinLockRelease(&slot->mutex);

	pi_my_slot = NULL;
	wake_launcher();
}

void
pi_slot_attach(int worker)
{
	PiSlot	   *slot;
	pid_t		holder;

	if (pi_shared == NULL || worker < 0 || worker >= pi_max_workers)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there is no shared memory for profimport worker %d",
						worker + 1)));

	slot = &pi_shared->slots[worker];

	SpinLockAcquire(&slot->mutex);
	holder = slot->pid;
	if (holder == 0)
	{
		slot->pid = MyProcPid;
		slot->wants_restart = false;
		slot->latch = MyLatch;
		slot->state = PI_STATE_CONNECTING;
		slot->queue_seen_at = 0;
	}
	SpinLockRelease(&slot->mutex);

	/* A launcher that was started anew may not know all of its predecessor's. */
	if (holder != 0)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("profimport worker %d already runs with PID %d",
						worker + 1, (int) holder)));

	pi_my_slot = slot;
	pi_my_worker = worker;
	before_shmem_exit(slot_detach, (Datum) 0);

	prev_emit_log_hook = emit_log_hook;
	emit_log_hook = slot_log_hook;
}

void
pi_slot_set_state(PiWorkerState state)
{
	if (pi_my_slot == NULL)
		return;

	SpinLockAcquire(&pi_my_slot->mutex);
	pi_my_slot->state = state;
	SpinLockRelease(&pi_my_slot->mutex);
}

void
pi_slot_set_connected(const char *broker)
{
	TimestampTz now = GetCurrentTimestamp();

	if (pi_my_slot == NULL)
		return;

	SpinLockAcquire(&pi_my_slot->mutex);
	copy_text(pi_my_slot->broker, sizeof(pi_my_slot->broker), broker);
	pi_my_slot->connected_since = now;
	pi_my_slot->blocked = false;
	SpinLockRelease(&pi_my_slot->mutex);
}

void
pi_slot_set_disconnected(void)
{
	if (pi_my_slot == NULL)
		return;

	SpinLockAcquire(&pi_my_slot->mutex);
	pi_my_slot->connected_since = 0;
	pi_my_slot->blocked = false;
	pi_my_slot->queue_seen_at = 0;
	SpinLockRelease(&pi_my_slot->mutex);
}

void
pi_slot_set_blocked(bool blocked)
{
	if (pi_my_slot == NULL)
		return;

	SpinLockAcquire(&pi_my_slot->mutex);
	pi_my_slot->blocked = blocked;
	SpinLockRelease(&pi_my_slot->mutex);
}

void
pi_slot_set_pending(uint64 results_pending)
{
	if (pi_my_slot == NULL)
		return;

	SpinLockAcquire(&pi_my_slot->mutex);
	pi_my_slot->results_pending = results_pending;
	SpinLockRelease(&pi_my_slot->mutex);
}

void
pi_slot_set_error(const char *text)
{
	TimestampTz now = GetCurrentTimestamp();

	if (pi_my_slot == NULL)
		return;

	SpinLockAcquire(&pi_my_slot->mutex);
	copy_text(pi_my_slot->last_error, sizeof(pi_my_slot->last_error), text);
	pi_my_slot->last_error_at = now;
	SpinLockRelease(&pi_my_slot->mutex);
}

void
pi_slot_set_queue(uint32 messages, uint32 consumers)
{
	TimestampTz now = GetCurrentTimestamp();

	if (pi_my_slot == NULL)
		return;

	SpinLockAcquire(&pi_my_slot->mutex);
	pi_my_slot->queue_messages = messages;
	pi_my_slot->queue_consumers = consumers;
	pi_my_slot->queue_seen_at = now;
	SpinLockRelease(&pi_my_slot->mutex);

	ConditionVariableBroadcast(&pi_shared->queue_cv);
}

bool
pi_slot_queue_wanted(void)
{
	TimestampTz wanted_at;

	if (pi_my_slot == NULL)
		return false;

	SpinLockAcquire(&pi_shared->mutex);
	wanted_at = pi_shared->queue_wanted_at;
	SpinLockRelease(&pi_shared->mutex);

	if (wanted_at == queue_request_taken)
		return false;
	queue_request_taken = wanted_at;
	return true;
}

void
pi_slot_set_open_batches(int64 first_batch_id)
{
	if (pi_my_slot == NULL)
		return;

	SpinLockAcquire(&pi_my_slot->mutex);
	pi_my_slot->open_batches = first_batch_id;
	SpinLockRelease(&pi_my_slot->mutex);
}

int64
pi_open_batches(int worker)
{
	PiSlot	   *slot;
	int64		first = 0;

	if (pi_shared == NULL || worker < 0 || worker >= pi_max_workers)
		return 0;

	slot = &pi_shared->slots[worker];
	SpinLockAcquire(&slot->mutex);
	if (slot->pid != 0)
		first = slot->open_batches;
	SpinLockRelease(&slot->mutex);
	return first;
}

void
pi_slot_count_connect(void)
{
	PiMinute	add = {.connects = 1};

	if (pi_my_slot == NULL)
		return;

	SpinLockAcquire(&pi_my_slot->mutex);
	pi_my_slot->c.connects++;
	SpinLockRelease(&pi_my_slot->mutex);

	pi_minute_count(&add);
}

void
pi_slot_count_published(uint64 results)
{
	PiMinute	add = {.results_published = results};

	if (pi_my_slot == NULL)
		return;

	SpinLockAcquire(&pi_my_slot->mutex);
	pi_my_slot->c.results_published += results;
	SpinLockRelease(&pi_my_slot->mutex);

	pi_minute_count(&add);
}

void
pi_slot_count_retry(void)
{
	PiMinute	add = {.retries = 1};

	if (pi_my_slot != NULL)
		pi_minute_count(&add);
}

/* Adds to the counters of stat_result. */
static void
add_by_code(uint64 (*by_code)[PI_NUM_OUTCOMES])
{
	int			i,
				j;

	SpinLockAcquire(&pi_shared->mutex);
	for (i = 0; i < PI_NUM_CODES; i++)
		for (j = 0; j < PI_NUM_OUTCOMES; j++)
			pi_shared->by_code[i][j] += by_code[i][j];
	SpinLockRelease(&pi_shared->mutex);
}

void
pi_slot_count_batch(const PiBatchResult *batch, int messages,
					int redelivered, int duplicates, double ms)
{
	PiSlot	   *slot = pi_my_slot;
	TimestampTz now = GetCurrentTimestamp();
	int64		second = now / USECS_PER_SEC;
	int			cell = (int) (second % PI_RATE_SECONDS);
	int			handled = messages + duplicates;
	uint64		by_code[PI_NUM_CODES][PI_NUM_OUTCOMES];
	PiMinute	add = {.batches = 1};
	int			failed = 0;
	int			i;

	if (slot == NULL)
		return;

	memset(by_code, 0, sizeof(by_code));
	for (i = 0; i < messages; i++)
	{
		const PiResult *r = &batch->results[i];

		by_code[pi_code_index(r->error)][r->outcome]++;
		if (r->error != 0)
			failed++;
	}

	add.messages = handled;
	add.succeeded = messages - failed;
	add.failed = failed;
	add.created = by_code[0][PI_CREATED];
	add.updated = by_code[0][PI_UPDATED];
	add.unchanged = by_code[0][PI_UNCHANGED];
	add.redelivered = redelivered;
	add.duplicates = duplicates;
	add.trigger_events = batch ? batch->trigger_events : 0;
	add.import_ms = ms;
	add.longest_batch_ms = ms;

	SpinLockAcquire(&slot->mutex);
	slot->c.messages += handled;
	slot->c.succeeded += messages - failed;
	slot->c.failed += failed;
	slot->c.redelivered += redelivered;
	slot->c.duplicates += duplicates;
	slot->c.batches++;
	slot->c.trigger_events += add.trigger_events;
	slot->last_batch_at = now;
	slot->last_batch_messages = handled;
	slot->last_batch_ms = ms;
	if (slot->rate_second[cell] != second)
	{
		slot->rate_second[cell] = second;
		slot->rate_count[cell] = 0;
	}
	slot->rate_count[cell] += handled;
	SpinLockRelease(&slot->mutex);

	add_by_code(by_code);
	pi_minute_count(&add);
}

uint64
pi_wake_generation(void)
{
	uint64		generation;

	if (pi_shared == NULL)
		return 0;

	SpinLockAcquire(&pi_shared->mutex);
	generation = pi_shared->wake_generation;
	SpinLockRelease(&pi_shared->mutex);
	return generation;
}

/* ------------------------------------------------------------------------
 * What SQL functions ask for at commit
 * ------------------------------------------------------------------------
 */

void
pi_wake_workers(void)
{
	int			i;

	SpinLockAcquire(&pi_shared->mutex);
	pi_shared->wake_generation++;
	SpinLockRelease(&pi_shared->mutex);

	for (i = 0; i < pi_max_workers; i++)
	{
		PiSlot	   *slot = &pi_shared->slots[i];
		Latch	   *latch;

		SpinLockAcquire(&slot->mutex);
		latch = slot->latch;
		SpinLockRelease(&slot->mutex);

		if (latch != NULL)
			SetLatch(latch);
	}
}

static void
at_xact_end(XactEvent event, void *arg)
{
	if (!wake_wanted && !count_wanted)
		return;

	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (count_wanted)
				add_by_code(pending_by_code);
			if (wake_wanted)
				pi_wake_workers();
			break;

		case XACT_EVENT_PRE_PREPARE:

			/*
			 * Nobody would wake the workers when it commits.  Core refuses
			 * the same for NOTIFY, for the same reason.
			 */
			if (wake_wanted)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has something for profimport to publish")));
			return;

		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			break;

		default:
			return;
	}

	wake_wanted = false;
	count_wanted = false;
	memset(pending_by_code, 0, sizeof(pending_by_code));
}

static bool
register_xact_callback(void)
{
	if (pi_shared == NULL)
		return false;
	if (!xact_callback_registered)
	{
		RegisterXactCallback(at_xact_end, NULL);
		xact_callback_registered = true;
	}
	return true;
}

void
pi_wake_workers_at_commit(void)
{
	if (register_xact_callback())
		wake_wanted = true;
}

void
pi_count_results_at_commit(const PiResult *results, int n)
{
	int			i;

	if (n == 0 || !register_xact_callback())
		return;

	for (i = 0; i < n; i++)
		pending_by_code[pi_code_index(results[i].error)][results[i].outcome]++;
	count_wanted = true;
}
