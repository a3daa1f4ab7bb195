/*-------------------------------------------------------------------------
 *
 * journal.h
 *		The batch record: what makes effects happen once and results arrive.
 *
 * Table profimport.batch: one row per batch, written in the batch's own
 * transaction.  It holds a digest of every delivery of the batch (until the
 * acknowledgement is known to have arrived) and everything the batch wants
 * published (until the broker has confirmed it).  Table profimport.applied
 * (packed, one row per batch) and profimport.dedup (one row per message_id)
 * keep what is needed to recognise repeats within dedup_window.
 *
 * SQL only; knows no AMQP connection.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_JOURNAL_H
#define PI_JOURNAL_H

#include "engine.h"

/* A message to publish, as stored and as handed to the outbox. */
typedef enum PiOutKind
{
	PI_OUT_RESULT = 'r',
	PI_OUT_EVENT = 't'
} PiOutKind;

typedef struct PiOut
{
	PiOutKind	kind;
	char	   *message_id;		/* stable */
	char	   *correlation_id; /* NULL: none */
	char	   *label;			/* result: outcome; event: kind */
	char	   *body;			/* JSON text */
	int			len;
} PiOut;

typedef struct PiBatchRecord
{
	int64		batch_id;
	TimestampTz committed_at;
	int			nout;
	PiOut	   *out;
} PiBatchRecord;

/* For SQL functions: a record without digests that any worker publishes. */
extern int64 pi_journal_add_outgoing(const PiOut *out, int nout);

/* A random, unique prefix for message ids: 32 hex digits. */
extern void pi_journal_new_uuid(char *buf33);

#endif							/* PI_JOURNAL_H */
