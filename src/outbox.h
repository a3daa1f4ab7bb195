/*-------------------------------------------------------------------------
 *
 * outbox.h
 *		Results and events on their way to the broker: unsent, sent,
 *		confirmed.
 *
 * The memory of one worker process.  What it holds is in profimport.batch as
 * well, so losing it loses nothing.  No SQL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_OUTBOX_H
#define PI_OUTBOX_H

#include "amqp.h"
#include "journal.h"
#include "nodes/pg_list.h"

extern void pi_outbox_init(void);

/* Drops everything: the tables it came from are gone. */
extern void pi_outbox_clear(void);

/* A context for the messages of a record, to be handed to pi_outbox_add(). */
extern MemoryContext pi_outbox_context(void);

/*
 * Takes over a record just committed and the context its messages live in;
 * ack_tag is the last delivery of the batch on the present connection.
 */
extern void pi_outbox_add(MemoryContext context, const PiBatchRecord *record,
						  uint64 ack_tag);

/* Copies a record read from the table: left by a process before, or by SQL. */
extern void pi_outbox_load(const PiBatchRecord *record);

/*
 * The table was emptied, and its numbers start anew: what is in memory is
 * sent, and has no row any more.
 */
extern void pi_outbox_disown(void);

/* ---- the consumer connection ---------------------------------------- */

/* It is open, and consumes from a queue of this type. */
extern void pi_outbox_consumer_opened(bool quorum_queue);

/* The channel has seen the acks of all deliveries up to this one. */
extern void pi_outbox_acknowledged(uint64 tag);

/* It is over: what was not known to be acknowledged may come back. */
extern void pi_outbox_consumer_lost(void);

/*
 * Before that, if it is us who close it: what the channel has seen is as good
 * as written.
 */
extern void pi_outbox_broker_lives(void);

/* Of these records nothing can come back any more.  Sorts the array. */
extern void pi_outbox_settle(int64 *batch_ids, int n);

/* ---- the publisher connection --------------------------------------- */

/* Sends what is unsent, as far as the connection takes it. */
extern PiPublishStatus pi_outbox_publish(PiAmqp *conn);

/* Returns how many messages have arrived with it. */
extern int	pi_outbox_confirmed(uint64 seq, bool multiple, bool nack);

/* A repeat is answered under the same message_id; correlation_id "": none. */
extern void pi_outbox_returned(const char *message_id,
							   const char *correlation_id);
extern void pi_outbox_publisher_lost(void);

/* Messages that have not arrived yet. */
extern uint64 pi_outbox_pending(void);

/* Of these: waiting to be sent. */
extern uint64 pi_outbox_unsent(void);

/*
 * profimport.trigger_queue was emptied while events were pending: where the
 * oldest of them goes.  NULL if there is none.  Valid as long as it has not
 * arrived.
 */
extern const char *pi_outbox_former_queue(void);

/* ---- what the table may forget -------------------------------------- */

typedef struct PiSettled
{
	int64	   *done;			/* pi_journal_delete() */
	int			ndone;
	int64	   *arrived;		/* pi_journal_arrived() */
	int			narrived;
	int64	   *acknowledged;	/* pi_journal_acknowledged() */
	int			nacknowledged;
} PiSettled;

/*
 * When pi_outbox_settled() would find something to tell; 0: not before
 * something happens.
 */
extern TimestampTz pi_outbox_settled_at(void);

/* How many messages that is. */
extern int	pi_outbox_settled_messages(void);

/*
 * Collects it, in CurrentMemoryContext.  After the transaction that told the
 * table, pi_outbox_forget() with its outcome.
 */
extern void pi_outbox_settled(PiSettled *settled);
extern void pi_outbox_forget(bool committed);

/*
 * Of the records some of whose messages have arrived, what has not: a List
 * of PiBatchRecord.
 */
extern List *pi_outbox_partial(void);

/*
 * All records in memory, or only those whose deliveries cannot come back to
 * us: acknowledged, or still held by our own connection.  Ascending; palloc'd
 * in CurrentMemoryContext.
 */
extern int64 *pi_outbox_ids(bool live_only, int *n);

#endif							/* PI_OUTBOX_H */
