/*-------------------------------------------------------------------------
 *
 * launcher.c
 *		The process that keeps as many workers running as the settings ask for.
 *
 * NOTES
 *		The launcher is a static background worker that is not connected to
 *		any database, so it is never in the way of CREATE or DROP DATABASE.
 *		The workers are dynamic ones that the postmaster never restarts: the
 *		launcher does, because only it knows whether a worker is still wanted
 *		and how often it failed.
 *
 *		It sleeps without a timeout unless a start is due later.  It is woken
 *		by a reload, by the postmaster when a worker started or ended
 *		(bgw_notify_pid), and by the worker itself when it gives its slot
 *		back.  The last of these is what makes a launcher that was started
 *		anew work: it adopts the workers of its predecessor, found in shared
 *		memory, though the postmaster does not report their end to it.
 *
 *		A worker that ends without having been told to is started again at
 *		once if it had lived for a second, else a second later; that makes
 *		pg_terminate_backend() a restart button.  When this goes on, the
 *		delay grows up to profimport.reconnect_delay_max.  A reload ends all
 *		delays: whoever corrected a setting wants to see the effect.  A worker
 *		that ends with exit code 0 asks for a restart at once, and gets that
 *		once until it has lived for a second.
 *
 *		On a standby the launcher does not run; the postmaster starts it at
 *		promotion (BgWorkerStart_RecoveryFinished).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <signal.h>

#include "backoff.h"
#include "compat.h"
#include "launcher.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "settings.h"
#include "shmem.h"
#include "storage/procsignal.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Seconds after which the postmaster starts a launcher that died. */
#define LAUNCHER_RESTART_S	5

/* A worker that ends earlier is not started again before this has passed. */
#define MIN_RESTART_MS		1000

/* A worker that lived longer has recovered from what made others fail. */
#define HEALTHY_MS			30000

/* What the launcher knows of the worker of a slot. */
typedef struct PiChild
{
	BackgroundWorkerHandle *handle; /* NULL: none, or adopted */
	bool		alive;			/* as seen at the last look */
	bool		stopping;		/* was told to end */
	TimestampTz started_at;
	TimestampTz not_before;		/* next start; 0: at once */
	bool		obliged;		/* a quick restart on demand was granted */
	PiBackoff	backoff;
} PiChild;

static PiChild *children = NULL;

/* One warning per trouble, until it is over. */
static bool warned_of_slots = false;
static int	warned_of_workers = 0;

void
pi_launcher_register(void)
{
	BackgroundWorker worker;

	/* pg_upgrade's server must not import into a half-copied cluster */
	if (IsBinaryUpgrade)
		return;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = LAUNCHER_RESTART_S;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name),
			 PI_LIBRARY_NAME);
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name),
			 "pi_launcher_main");
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "profimport launcher");
	snprintf(worker.bgw_type, sizeof(worker.bgw_type), "profimport launcher");

	RegisterBackgroundWorker(&worker);
}

/* ------------------------------------------------------------------------
 * Slots, seen from outside
 * ------------------------------------------------------------------------
 */

static pid_t
slot_pid(int i)
{
	PiSlot	   *slot = &pi_shared->slots[i];
	pid_t		pid;

	SpinLockAcquire(&slot->mutex);
	pid = slot->pid;
	SpinLockRelease(&slot->mutex);
	return pid;
}

static bool
slot_wants_restart(int i)
{
	PiSlot	   *slot = &pi_shared->slots[i];
	bool		wants;

	SpinLockAcquire(&slot->mutex);
	wants = slot->wants_restart;
	SpinLockRelease(&slot->mutex);
	return wants;
}

/*
 * Says in which state a slot without a process is; error is NULL to keep the
 * last one.
 */
static void
slot_note(int i, PiWorkerState state, const char *error)
{
	PiSlot	   *slot = &pi_shared->slots[i];
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&slot->mutex);
	if (slot->pid == 0)
	{
		slot->state = state;
		if (error != NULL)
		{
			strlcpy(slot->last_error, error, sizeof(slot->last_error));
			slot->last_error_at = now;
		}
	}
	SpinLockRelease(&slot->mutex);
}

static void
set_out_of_slots(bool value)
{
	SpinLockAcquire(&pi_shared->mutex);
	pi_shared->out_of_slots = value;
	SpinLockRelease(&pi_shared->mutex);
}

static void
launcher_detach(int code, Datum arg)
{
	SpinLockAcquire(&pi_shared->mutex);
	if (pi_shared->launcher_pid == MyProcPid)
	{
		pi_shared->launcher_pid = 0;
		pi_shared->launcher_latch = NULL;
	}
	SpinLockRelease(&pi_shared->mutex);
}

static void
launcher_attach(void)
{
	SpinLockAcquire(&pi_shared->mutex);
	pi_shared->launcher_pid = MyProcPid;
	pi_shared->launcher_latch = MyLatch;
	pi_shared->out_of_slots = false;
	SpinLockRelease(&pi_shared->mutex);

	before_shmem_exit(launcher_detach, (Datum) 0);
}

/* ------------------------------------------------------------------------
 * Starting and stopping one worker
 * ------------------------------------------------------------------------
 */

/* After a failure: when the next start is due. */
static void
delay_start(PiChild *child, TimestampTz now, int at_least_ms)
{
	int			max_ms = Max(pi_reconnect_delay_max, MIN_RESTART_MS);
	int			delay = pi_backoff_next(&child->backoff, max_ms);

	child->not_before =
		TimestampTzPlusMilliseconds(now, Max(delay, at_least_ms));
}

static void
start_child(int i, TimestampTz now)
{
	PiChild    *child = &children[i];
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name),
			 PI_LIBRARY_NAME);
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name),
			 PI_WORKER_FUNCTION);
	snprintf(worker.bgw_name, sizeof(worker.bgw_name),
			 "profimport worker %d", i + 1);
	snprintf(worker.bgw_type, sizeof(worker.bgw_type), "profimport worker");
	worker.bgw_main_arg = Int32GetDatum(i);
	worker.bgw_notify_pid = MyProcPid;

	if (RegisterDynamicBackgroundWorker(&worker, &child->handle))
	{
		child->alive = true;
		child->stopping = false;
		child->started_at = now;
		child->not_before = 0;
		return;
	}

	child->handle = NULL;
	set_out_of_slots(true);
	slot_note(i, PI_STATE_ERROR,
			  "no free background worker slot; max_worker_processes is too small");
	if (!warned_of_slots)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start profimport worker %d: out of background worker slots",
						i + 1),
				 errhint("Raise max_worker_processes, which is %d now, and restart the server. "
						 "profimport needs %d of them.",
						 max_worker_processes, 1 + pi_configured_workers())));
	warned_of_slots = true;

	/* nobody tells when a slot becomes free */
	delay_start(child, now, MIN_RESTART_MS);
}

static void
stop_child(int i)
{
	PiChild    *child = &children[i];
	pid_t		pid;

	if (child->stopping)
		return;

	if (child->handle != NULL)
		TerminateBackgroundWorker(child->handle);
	else if ((pid = slot_pid(i)) != 0)
		kill(pid, SIGTERM);
	child->stopping = true;
}

/*
 * Looks whether the worker of a slot lives, and if it has ended since the
 * last look, decides when it may be started again.
 */
static void
look_at_child(int i, TimestampTz now)
{
	PiChild    *child = &children[i];
	bool		was_alive = child->alive;
	int			lived_ms;

	child->alive = slot_pid(i) != 0;
	if (child->handle != NULL)
	{
		pid_t		pid;

		if (GetBackgroundWorkerPid(child->handle, &pid) == BGWH_STOPPED)
		{
			pfree(child->handle);
			child->handle = NULL;
		}
		else
			child->alive = true;
	}

	if (child->alive || !was_alive)
		return;

	if (child->stopping)
	{
		/* as wanted; it may have left results to others */
		pi_wake_workers();
		child->stopping = false;
		child->not_before = 0;
		pi_backoff_reset(&child->backoff);
		return;
	}

	lived_ms = (int) Min((now - child->started_at) / 1000, INT_MAX);
	if (lived_ms >= MIN_RESTART_MS)
		child->obliged = false;
	if (lived_ms >= HEALTHY_MS)
		pi_backoff_reset(&child->backoff);

	if (slot_wants_restart(i) && !child->obliged)
	{
		child->obliged = true;
		child->not_before = 0;
	}
	else
		delay_start(child, now, MIN_RESTART_MS - lived_ms);

	elog(DEBUG1, "profimport worker %d ended after %d ms", i + 1, lived_ms);
}

/*
 * Finds the workers of a predecessor, and leaves time before the first start
 * if the server keeps crashing (see shmem.c).
 */
static void
adopt_children(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int			delay;
	int			i;

	SpinLockAcquire(&pi_shared->mutex);
	delay = pi_shared->start_delay_ms;
	pi_shared->start_delay_ms = 0;
	SpinLockRelease(&pi_shared->mutex);

	children = MemoryContextAllocZero(TopMemoryContext,
									  pi_max_workers * sizeof(PiChild));
	for (i = 0; i < pi_max_workers; i++)
	{
		children[i].alive = slot_pid(i) != 0;
		children[i].started_at = now;
		if (delay > 0)
		{
			children[i].not_before = TimestampTzPlusMilliseconds(now, delay);
			slot_note(i, PI_STATE_BACKOFF,
					  "the server crashed several times in a row right after workers were started");
		}
	}

	if (delay > 0)
		ereport(LOG,
				(errmsg("profimport workers are started in %d s, because the server crashed several times in a row right after workers were started",
						delay / 1000)));
}

/* ------------------------------------------------------------------------
 * The loop
 * ------------------------------------------------------------------------
 */

/*
 * Makes what runs what is wanted, as far as that is possible now.  Returns
 * when to try again, 0 if only an event can change anything.
 */
static TimestampTz
tend_children(void)
{
	int			wanted = pi_enabled ? pi_configured_workers() : 0;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = 0;
	bool		out_of_slots = false;
	int			i;

	for (i = 0; i < pi_max_workers; i++)
	{
		PiChild    *child = &children[i];

		look_at_child(i, now);

		if (i >= wanted)
		{
			if (child->alive)
				stop_child(i);
			else
			{
				child->not_before = 0;
				pi_backoff_reset(&child->backoff);
				slot_note(i, pi_enabled ? PI_STATE_STOPPED : PI_STATE_DISABLED,
						  NULL);
			}
			continue;
		}

		/* one that is on its way out makes room first */
		if (child->alive)
			continue;

		if (child->not_before <= now)
			start_child(i, now);
		if (!child->alive)
		{
			if (next == 0 || child->not_before < next)
				next = child->not_before;
			if (child->handle == NULL && warned_of_slots)
				out_of_slots = true;
		}
	}

	if (warned_of_slots && !out_of_slots)
	{
		warned_of_slots = false;
		set_out_of_slots(false);
	}

	return next;
}

static void
warn_of_workers(void)
{
	if (pi_workers <= pi_max_workers)
		warned_of_workers = 0;
	else if (pi_workers != warned_of_workers)
	{
		warned_of_workers = pi_workers;
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("profimport.workers is %d, but profimport.max_workers allows %d",
						pi_workers, pi_max_workers),
				 errhint("Raise profimport.max_workers and restart the server.")));
	}
}

static void
reload(void)
{
	char	   *old_role = pstrdup(pi_role);
	int			i;

	ProcessConfigFile(PGC_SIGHUP);

	/* a session cannot change who it is */
	if (strcmp(old_role, pi_role) != 0)
		for (i = 0; i < pi_max_workers; i++)
			if (children[i].alive)
				stop_child(i);
	pfree(old_role);

	for (i = 0; i < pi_max_workers; i++)
	{
		children[i].not_before = 0;
		pi_backoff_reset(&children[i].backoff);
	}
	warn_of_workers();
}

void
pi_launcher_main(Datum main_arg)
{
	static uint32 wait_event = 0;

	/*
	 * Without a database connection SIGUSR1 is ignored unless asked for; the
	 * postmaster uses it to tell about workers.
	 */
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGUSR1, procsignal_sigusr1_handler);
	BackgroundWorkerUnblockSignals();

	wait_event = WaitEventExtensionNew("ProfimportLauncher");

	adopt_children();
	launcher_attach();
	warn_of_workers();

	while (!ShutdownRequestPending)
	{
		TimestampTz next;
		long		timeout = -1;

		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			reload();
		}

		next = tend_children();
		if (next != 0)
			timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
													  next);

		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH |
						 (timeout >= 0 ? WL_TIMEOUT : 0),
						 timeout, wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}

	/* not 0, which would mean that the launcher is never needed again */
	proc_exit(1);
}
