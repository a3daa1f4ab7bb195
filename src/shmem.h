/*-------------------------------------------------------------------------
 *
 * shmem.h
 *		Shared memory: what each worker is doing, and the counters behind the
 *		statistics views.
 *
 * Notes about locking: each slot has a spinlock that guards every field of
 * it.  A worker gathers locally and publishes once per batch or state change;
 * readers copy the slot under the lock and format afterwards.  "launcher_pid",
 * "wake_generation" and the result counters are guarded by PiShared->mutex.
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
#include "settings.h"
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

typedef struct PiSlot
{
	slock_t		mutex;
	pid_t		pid;			/* 0: no process */
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
	uint64		wake_generation;	/* bumped when SQL left something to publish */
	TimestampTz stats_reset;
	/* counters by error code and outcome, for stat_result */
	uint64		by_code[5][PI_NUM_OUTCOMES];	/* 0 400 404 409 500 */
	PiSlot		slots[FLEXIBLE_ARRAY_MEMBER];	/* pi_max_workers of them */
} PiShared;

extern PiShared *pi_shared;

extern void pi_shmem_init(void);	/* hooks; from _PG_init when preloading */

/* The worker's own slot: attach (clears itself at exit), then publish. */
extern void pi_slot_attach(int worker);
extern PiSlot *pi_my_slot;

extern void pi_slot_set_state(PiWorkerState state);
extern void pi_slot_set_connected(const char *broker);
extern void pi_slot_set_disconnected(void);
extern void pi_slot_set_blocked(bool blocked);
extern void pi_slot_set_pending(uint64 results_pending);
extern void pi_slot_set_error(const char *text);	/* no profile values */
extern void pi_slot_set_queue(uint32 messages, uint32 consumers);
extern void pi_slot_count_connect(void);
extern void pi_slot_count_published(uint64 results);
extern void pi_slot_count_batch(const PiBatchResult *batch, int messages,
								int redelivered, int duplicates, double ms);

/*
 * At commit of the current transaction: tells the workers that a row in
 * profimport.batch waits to be published (retry_error, trigger events of
 * import() for trigger_queue).
 */
extern void pi_wake_workers_at_commit(void);

#endif							/* PI_SHMEM_H */
