/*-------------------------------------------------------------------------
 *
 * worker.c
 *		The process that consumes: its entry, its role, its one wait.
 *
 * NOTES
 *		The process waits in one place only, for its latch, both sockets and
 *		a time, and never in a transaction.
 *
 *		It runs as profimport.role.  If that is empty, it runs as the owner of
 *		the extension, who is known only after a look into the database, and a
 *		session must not become somebody else afterwards: a trigger function
 *		could change back.  So the first worker that finds the owner to be
 *		somebody else leaves a note in shared memory and ends; the launcher
 *		starts it again, and then it connects as the owner right away.  The same
 *		happens when the extension gets another owner later.
 *
 *		It ends by FATAL on SIGTERM, wherever it is, as a backend does.
 *
 * IDENTIFICATION
 *		src/worker.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "amqp.h"
#include "apply.h"
#include "compat.h"
#include "consume.h"
#include "engine.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "settings.h"
#include "shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker.h"

/* How often the owner is looked for while the extension is absent. */
#define ABSENT_MS 5000

/* Delay after an error that nobody expected. */
#define RECOVER_MS 1000

static uint32 wait_event = 0;

/* ---- the wait ------------------------------------------------------- */

static void
reload(void)
{
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	pi_consume_reload();
}

/*
 * The set of what is waited for, kept as long as the connections are the
 * same; one that holds a closed socket must not be touched.
 */
static WaitEventSet *
wait_set(void)
{
	static WaitEventSet *set = NULL;
	static PiSocket known[PI_NUM_SOCKETS];
	static int	positions[PI_NUM_SOCKETS];
	PiSocket	now[PI_NUM_SOCKETS];
	WaitEventSet *made = set;
	bool		same = set != NULL;

	pi_consume_sockets(now);
	for (int i = 0; i < PI_NUM_SOCKETS; i++)
		same &= now[i].fd == known[i].fd &&
			now[i].opened_at == known[i].opened_at;
	if (!same)
	{
		if (set != NULL)
			FreeWaitEventSet(set);
		set = NULL;
		made = pi_create_wait_event_set(2 + PI_NUM_SOCKETS);
		AddWaitEventToSet(made, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		AddWaitEventToSet(made, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL,
						  NULL);
	}
	for (int i = 0; i < PI_NUM_SOCKETS; i++)
	{
		int			events = WL_SOCKET_READABLE |
		(now[i].writable ? WL_SOCKET_WRITEABLE : 0);

		if (now[i].fd == PGINVALID_SOCKET)
			continue;
		if (!same)
			positions[i] = AddWaitEventToSet(made, events, now[i].fd, NULL,
											 NULL);
		else if (now[i].writable != known[i].writable)
			ModifyWaitEvent(set, positions[i], events, NULL);
	}
	memcpy(known, now, sizeof(known));
	set = made;
	return set;
}

/* Waits until wake_at (0: for ever), or for anything else. */
static void
wait_for_event(TimestampTz wake_at)
{
	WaitEventSet *set = wait_set();
	WaitEvent	event;
	long		timeout = -1;

	if (wake_at != 0)
		timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
												  wake_at);
	(void) WaitEventSetWait(set, timeout, &event, 1, wait_event);
	ResetLatch(MyLatch);
}

static void
wait_ms(int ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 ms, wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
		reload();
}

/* ---- the role ------------------------------------------------------- */

static void
connect_to_database(void)
{
	Oid			database;
	Oid			owner;

	if (pi_role[0] != '\0')
	{
		BackgroundWorkerInitializeConnection(pi_database, pi_role, 0);
		return;
	}

	/*
	 * What is noted may be out of date, and then this start fails; so it is
	 * taken out, and put back when it has proved good.
	 */
	SpinLockAcquire(&pi_shared->mutex);
	database = pi_shared->database_oid;
	owner = pi_shared->owner_oid;
	pi_shared->database_oid = InvalidOid;
	pi_shared->owner_oid = InvalidOid;
	SpinLockRelease(&pi_shared->mutex);

	if (OidIsValid(owner))
		BackgroundWorkerInitializeConnectionByOid(database, owner, 0);
	else
		BackgroundWorkerInitializeConnection(pi_database, NULL, 0);
}

static void
note_owner(Oid owner)
{
	SpinLockAcquire(&pi_shared->mutex);
	pi_shared->database_oid = MyDatabaseId;
	pi_shared->owner_oid = owner;
	SpinLockRelease(&pi_shared->mutex);
}

/* The owner of the extension; invalid if it is not there: why, in the slot. */
static Oid
find_owner(void)
{
	const char *reason = NULL;
	Oid			owner = InvalidOid;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (!pi_extension_usable(&reason, &owner))
		owner = InvalidOid;
	if (reason != NULL)
		pi_slot_set_error(reason);
	CommitTransactionCommand();
	return owner;
}

/* Returns as the right role, once there is an extension to have an owner. */
static void
assume_role(void)
{
	Oid			owner;

	if (pi_role[0] != '\0')
		return;
	for (;;)
	{
		owner = find_owner();
		if (OidIsValid(owner))
			break;
		pi_slot_set_state(PI_STATE_WAITING);
		pgstat_report_activity(STATE_IDLE, NULL);
		wait_ms(ABSENT_MS);
	}
	note_owner(owner);
	if (owner != GetUserId())
	{
		ereport(DEBUG1,
				(errmsg_internal("profimport worker %d starts again as the owner of the extension",
								 pi_my_worker + 1)));
		proc_exit(0);
	}
}

static void
warn_of_superuser(void)
{
	bool		warned;
	bool		is_superuser;

	StartTransactionCommand();
	is_superuser = superuser();
	CommitTransactionCommand();
	if (!is_superuser)
		return;
	SpinLockAcquire(&pi_shared->mutex);
	warned = pi_shared->warned_of_superuser;
	pi_shared->warned_of_superuser = true;
	SpinLockRelease(&pi_shared->mutex);
	if (!warned)
		ereport(WARNING,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("profimport workers run as a superuser"),
				 errdetail("Triggers and functions of users that an import sets off run with all rights."),
				 errhint("Create a role with LOGIN, call profimport.grant_worker() for it and set profimport.role.")));
}

/* ---- the process ---------------------------------------------------- */

static void
at_exit(int code, Datum arg)
{
	pi_consume_end();
}

/* Turns until something throws. */
static void
run(void)
{
	for (;;)
	{
		TimestampTz wake_at;
		bool		again;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
			reload();
		again = pi_consume_turn(&wake_at);
		Assert(!IsTransactionState());
		if (pi_apply_is_stranger())
			assume_role();
		if (again)
			continue;
		pgstat_report_activity(STATE_IDLE, NULL);
		wait_for_event(wake_at);
	}
}

/*
 * Whatever is thrown outside of a batch's transaction is not expected.  It is
 * reported as usual, and everything begins anew.
 */
static void
run_caught(MemoryContext context)
{
	PG_TRY();
	{
		run();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		error_context_stack = NULL;
		QueryCancelPending = false;
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		pi_consume_recover();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
}

void
pi_worker_main(Datum main_arg)
{
	pi_slot_attach(DatumGetInt32(main_arg));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pi_amqp_install_sigterm();
	BackgroundWorkerUnblockSignals();
	wait_event = WaitEventExtensionNew("ProfimportWorker");

	connect_to_database();
	pi_apply_init();
	pi_consume_init();
	before_shmem_exit(at_exit, (Datum) 0);
	assume_role();
	warn_of_superuser();

	for (;;)
	{
		run_caught(TopMemoryContext);
		wait_ms(RECOVER_MS);
	}
}
