/*-------------------------------------------------------------------------
 *
 * shmem.h
 *		Shared memory: what each worker is doing, and the counters behind the
 *		statistics views.
 *
 * Notes about locking: each slot has a spinlock that guards every field of
 * it.  A worker gathers locally and publishes once per batch or state change;
 * readers copy the slot under the lock and format afterwards.  Everything
 * else in PiShared is guarded by PiShared->mutex.  No code holds two of these
 * spinlocks, and latches are set after the lock is released: a latch lives in
 * shared memory for good, so that a late SetLatch() only wakes a stranger.
 *
 * Workers are numbered from 0 here and everywhere in C (the launcher passes
 * the number as bgw_main_arg); the views and messages for people add 1.
 *
 * Nothing here exists unless the library was preloaded: pi_shared is NULL
 * then, and every function below is a no-op that answers "not there".
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_SHMEM_H
#define PI_SHMEM_H

#include "datatype/timestamp.h"
#include "engine.h"
#include "minute.h"
#include "settings.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/spin.h"

typedef enum PiWorkerState
{
	PI_STATE_STOPPED,
	PI_STATE_DISABLED,
	PI_STATE_WAITING,			/* no usable extension in the database */
	PI_STATE_CONNECTING,
	PI_STATE_IDLE,
	PI_STATE_IMPORTING,
	PI_STATE_BLOCKED,			/* results wait for a blocked broker */
	PI_STATE_PAUSED,
	PI_STATE_BACKOFF,
	PI_STATE_ERROR
} PiWorkerState;

extern const char *pi_state_name(PiWorkerState state);

typedef struct PiCounters
{
	uint64		messages;
	uint64		succeeded;
	uint64		failed;
	uint64		redelivered;
	uint64		duplicates;
	uint64		batches;
	uint64		results_published;
	uint64		trigger_events;
	uint64		connects;
} PiCounters;

#define PI_RATE_SECONDS 60
#define PI_NUM_CODES 5

typedef struct PiSlot
{
	slock_t		mutex;
	pid_t		pid;			/* 0: no process */
	bool		wants_restart;	/* the last one ended with exit code 0 */
	Latch	   *latch;			/* MyLatch of that process (in shared memory) */
	PiWorkerState state;
	char		broker[512];	/* described without password; "" unknown */
	TimestampTz connected_since;	/* 0: not connected */
	bool		blocked;
	PiCounters	c;
	uint64		results_pending;
	TimestampTz last_batch_at;
	int			last_batch_messages;
	double		last_batch_ms;
	char		last_error[1024];
	TimestampTz last_error_at;
	/*
	 * Records of batches from this one on were delivered by the connection
	 * that is open; 0: there are none.
	 */
	int64		open_batches;
	/* queue depth as last seen by this worker */
	uint32		queue_messages;
	uint32		queue_consumers;
	TimestampTz queue_seen_at;	/* 0: never */
	/* messages by second, a ring for status.messages_per_second */
	int64		rate_second[PI_RATE_SECONDS];	/* second (epoch) of the cell */
	uint32		rate_count[PI_RATE_SECONDS];
} PiSlot;

typedef struct PiShared
{
	slock_t		mutex;
	pid_t		launcher_pid;
	Latch	   *launcher_latch;
	uint64		wake_generation;	/* bumped when SQL left something to
									 * publish */
	bool		out_of_slots;	/* max_worker_processes kept a worker away */
	int			start_delay_ms; /* see crash_delay() */
	TimestampTz queue_wanted_at;	/* someone looked at the queue depth; 0:
									 * never */
	Oid			database_oid;	/* where a worker found the extension, and ... */
	Oid			owner_oid;		/* ... its owner; invalid: not known */
	bool		warned_of_superuser;
	bool		told_of_older_objects;	/* see extension.c */
	bool		told_of_unknown_objects;
	ConditionVariable queue_cv; /* broadcast when a worker told the depth */
	TimestampTz stats_reset;
	/* counters by error code and outcome, for stat_result */
	uint64		by_code[PI_NUM_CODES][PI_NUM_OUTCOMES]; /* 0 400 404 409 500 */
	PiMinute	minutes[PI_MINUTES];
	PiSlot		slots[FLEXIBLE_ARRAY_MEMBER];	/* pi_max_workers of them */
} PiShared;

extern PiShared *pi_shared;

extern void pi_shmem_init(void);	/* hooks; from _PG_init when preloading */

/*
 * The worker's own slot.  Attach is the first thing a worker does: from then
 * on its end, whatever the reason, is seen by the launcher, and a FATAL (no
 * such database, role not permitted to log in, ...) is kept as last_error.
 * A worker that wants to be started anew at once calls proc_exit(0).
 */
extern void pi_slot_attach(int worker);
extern PiSlot *pi_my_slot;
extern int	pi_my_worker;		/* its number; -1: not a worker */

extern void pi_slot_set_state(PiWorkerState state);
extern void pi_slot_set_connected(const char *broker);
extern void pi_slot_set_disconnected(void);
extern void pi_slot_set_blocked(bool blocked);
extern void pi_slot_set_pending(uint64 results_pending);
extern void pi_slot_set_error(const char *text);	/* no profile values */
extern void pi_slot_set_queue(uint32 messages, uint32 consumers);
extern void pi_slot_set_open_batches(int64 first_batch_id);
extern void pi_slot_count_connect(void);
extern void pi_slot_count_published(uint64 results);
extern void pi_slot_count_retry(void);	/* a batch that was rolled back */

/*
 * Counts a committed batch, once per transaction.  "messages" is the number
 * of results in batch->results, that is of messages imported (or given up)
 * now; "duplicates" of deliveries answered from the record beside them.
 * stat_worker.messages is their sum.  batch may be NULL if messages is 0.
 */
extern void pi_slot_count_batch(const PiBatchResult *batch, int messages,
								int redelivered, int duplicates, double ms);

/*
 * True once after someone looked at the status view and found the queue depth
 * too old: the worker then sends pi_amqp_queue_poll() and passes the answer
 * to pi_slot_set_queue().  Asking sets the latch of connected workers, so an
 * idle worker needs no timer for this.
 */
extern bool pi_slot_queue_wanted(void);

/* open_batches of a worker (from 0), if it runs. */
extern int64 pi_open_batches(int worker);

/* Present generation of wake-ups; compare with the value seen before. */
extern uint64 pi_wake_generation(void);

/*
 * At commit of the current transaction: tells the workers that a row in
 * profimport.batch waits to be published (retry_error, trigger events of
 * import() for trigger_queue).
 */
extern void pi_wake_workers_at_commit(void);

/* At once: there may be records that are nobody's. */
extern void pi_wake_workers(void);

/*
 * At commit of the current transaction: adds to the counters of stat_result.
 * For SQL functions that import; workers use pi_slot_count_batch().
 */
extern void pi_count_results_at_commit(const PiResult *results, int n);

/* Index of an error code in PiShared->by_code, and back. */
extern int	pi_code_index(int error);
extern int	pi_code_at(int index);

#endif							/* PI_SHMEM_H */
