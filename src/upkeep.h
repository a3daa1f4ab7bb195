/*-------------------------------------------------------------------------
 *
 * upkeep.h
 *		What a worker does in the tables besides importing, and the state of
 *		a worker.
 *
 * Private to consume.c and upkeep.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_UPKEEP_H
#define PI_UPKEEP_H

#include "feed.h"
#include "session.h"
#include "shmem.h"

/* Results that may wait to be confirmed, in batches. */
#define PI_PENDING_BATCHES 100

/* Is it certain that no delivery of a connection that died can come back? */
typedef enum PiSettling
{
	PI_SETTLING_NOT,
	PI_SETTLING_ASKED,			/* is the queue empty? */
	PI_SETTLING_PROBED,			/* it was; has everything arrived here? */
	PI_SETTLING_SURE
} PiSettling;

typedef struct PiProbe
{
	uint64		tag;			/* acknowledged up to here; 0: nothing */
	bool		settling;
} PiProbe;

typedef struct PiWorker
{
	PiFeed		feed;
	PiLink		consumer;
	PiLink		publisher;

	/* the extension */
	bool		attached;
	TimestampTz attach_at;
	bool		begun;			/* this process is noted in worker_run */
	int			noted_prefetch;
	uint64		wake_generation;
	bool		records_left;	/* in the table, for want of room here */

	/* the consumer */
	PiSource	source;			/* of its deliveries; kept when it is closed */
	bool		cancelled;		/* by the broker: no more deliveries */
	bool		reopen;			/* settings changed */
	PiProbe    *probes;
	int			nprobes;
	int			probe_room;
	int			unprobed;		/* messages acknowledged since the last probe */
	uint64		unprobed_tag;	/* the last of them */
	TimestampTz probe_at;		/* at the latest, if there are any */

	/* pausing */
	TimestampTz paused_since;	/* 0: not paused */
	bool		away;			/* deliveries given back, copies kept */
	TimestampTz come_back_at;	/* at the latest */
	int			times_away;		/* in a row */

	/* deliveries of records that are not in memory */
	bool		unsettled;		/* may come back */
	PiSettling	settling;
	TimestampTz settle_at;		/* next look */
	int			settle_ms;

	/* small things to do */
	TimestampTz last_batch_at;
	TimestampTz forget_at;		/* not before */
	TimestampTz depth_at;
	TimestampTz maintain_at;

	/* as told to shared memory */
	bool		connected;
	bool		was_connected;	/* at any time */
	bool		blocked;
	uint64		pending;
	PiWorkerState state;

	bool		importing;		/* in a transaction with messages */
	TimestampTz next_turn;		/* see pi_wake_no_later_than() */
} PiWorker;

/* The worker that this process is. */
extern PiWorker pi_worker;

/* The next turn is due then at the latest. */
extern void pi_wake_no_later_than(TimestampTz at);

/* True if the time has come (0: always); if not, the turn is noted. */
extern bool pi_is_time(TimestampTz at);

extern TimestampTz pi_in_ms(int64 ms);
extern void pi_set_state(PiWorkerState state);
extern uint64 pi_pending_limit(void);
extern bool pi_all_kept(void);

/* ---- upkeep.c ------------------------------------------------------- */

/* Reads the tables once they are there.  False: not yet. */
extern bool pi_upkeep_attach(void);

/* Takes over what SQL functions or other workers left to be published. */
extern void pi_upkeep_claim(void);

/* The consumer is open: notes what it may hold. */
extern void pi_upkeep_note_prefetch(void);

/* When there is time. */
extern void pi_upkeep_settle(void);
extern void pi_upkeep_forget(void);

/* Between batches, when it is due. */
extern void pi_upkeep_maintain(void);

/* The process ends, and not in the middle of a batch. */
extern void pi_upkeep_note_end(bool clean);

/* ---- consume.c ------------------------------------------------------ */

/* The tables are not there any more, or are others. */
extern void pi_consume_detach(void);

#endif							/* PI_UPKEEP_H */
