/*-------------------------------------------------------------------------
 *
 * batch.h
 *		Deliveries collected for one transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_BATCH_H
#define PI_BATCH_H

#include "amqp.h"

#define PI_DIGEST_LEN 16

/* AMQP's limit for a property that is a string */
#define PI_SHORT_STRING_LEN 255

typedef struct PiArrival
{
	PiDelivery	delivery;
	bool		too_large;		/* the message is longer than allowed */

	/* of body and properties as delivered: the same when redelivered */
	uint8		digest[PI_DIGEST_LEN];
	/* of the body alone */
	uint8		body_digest[PI_DIGEST_LEN];
	/* of message_id and body; only if has_message_id */
	uint8		id_digest[PI_DIGEST_LEN];
	bool		has_message_id;
} PiArrival;

/*
 * Where deliveries come from.  Two numbers in one: the upper half stands for
 * queue and virtual host, the lower one for the broker.  0: not known.
 */
typedef uint64 PiSource;

typedef struct PiBatch
{
	MemoryContext context;		/* holds everything below */
	PiArrival  *items;
	int			nitems;
	int			allocated;
	int			done;			/* items before this one are committed */
	size_t		bytes;			/* of all bodies */
	TimestampTz opened_at;		/* when the first one came */
} PiBatch;

extern PiBatch *pi_batch_create(MemoryContext parent);
extern void pi_batch_reset(PiBatch *batch);

/*
 * Takes a delivery whose memory is in batch->context.  max_body is the limit
 * that pi_amqp_next() was given.
 */
extern void pi_batch_add(PiBatch *batch, const PiDelivery *delivery,
						 size_t max_body);

/* broker: pi_amqp_cluster_name() */
extern PiSource pi_batch_source(const char *vhost, const char *queue,
								const char *broker);

/* The same queue, on whatever broker? */
extern bool pi_batch_same_queue(PiSource a, PiSource b);

/*
 * The correlation_id of the result: what the sender of this delivery waits
 * for, also if the result is that of an earlier message.  An empty property
 * is as good as none.  Palloc'd; NULL: none.
 */
extern char *pi_batch_correlation(const PiArrival *item,
								  const char *feedback_id);

#endif							/* PI_BATCH_H */
