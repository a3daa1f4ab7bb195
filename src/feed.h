/*-------------------------------------------------------------------------
 *
 * feed.h
 *		The deliveries in hand: which of them are tried next, and when.
 *
 * Decides how a failed transaction is retried: whole, in smaller pieces, one
 * message alone, or not at all for now.  Knows no AMQP connection.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_FEED_H
#define PI_FEED_H

#include "apply.h"
#include "backoff.h"
#include "batch.h"

/*
 * Failing for longer than this, deliveries are given back.  A test build has
 * less patience.
 */
#ifndef PI_PATIENCE_MS
#define PI_PATIENCE_MS 60000
#endif

/* Messages known to be slow or to need too much memory. */
#define PI_MAX_SUSPECTS 64

typedef struct PiSuspect
{
	uint8		digest[PI_DIGEST_LEN];
	int			failures;		/* alone */
	int			sqlerrcode;		/* of the last */
} PiSuspect;

typedef struct PiFeed
{
	PiBatch    *batch;
	TimestampTz not_before;		/* next attempt; 0: at once */
	TimestampTz failing_since;	/* 0: not failing */
	bool		setup;			/* failing for a reason that hits everybody */

	/* private */
	int			piece;			/* at most so many at once; 0: all */
	int			tries;			/* failures in a row with this piece */
	PiBackoff	backoff;
	int			careful;		/* redelivered ones still to be tried alone */
	bool		attempting;		/* an attempt is recorded for ... */
	uint8		attempted[PI_DIGEST_LEN];
	int			deaths;			/* ... which cost so many workers before */
	TimestampTz undecided_since;	/* 0: not waiting for another worker */
	int64		horizon;		/* see PiRepeatScope */
	int			hopeless;		/* SQLSTATE for which the next one is given up */
	PiSuspect	suspects[PI_MAX_SUSPECTS];
	int			nsuspects;
	char		reported[512];	/* last failure logged */
} PiFeed;

typedef enum PiFeedStatus
{
	PI_FEED_NOTHING,			/* none in hand, or not yet time */
	PI_FEED_DONE,				/* committed up to *tag */
	PI_FEED_FAILED,				/* will be tried again */
	PI_FEED_TIRED,				/* failing for too long: give them back */
	PI_FEED_ABSENT,				/* no usable extension */
	PI_FEED_LOST				/* the connection is dead */
} PiFeedStatus;

/* What feed.c does not know by itself. */
typedef struct PiFeedWorld
{
	bool		all_kept;
	PiSource	source;			/* of the deliveries */
	bool		(*tick) (bool thorough);
} PiFeedWorld;

extern void pi_feed_init(PiFeed *feed);

/* The next n redelivered messages are tried one by one. */
extern void pi_feed_be_careful(PiFeed *feed, int n);

/* True if another delivery may be taken. */
extern bool pi_feed_wants_more(const PiFeed *feed);
extern bool pi_feed_empty(const PiFeed *feed);

/* One attempt, if one is due.  After PI_FEED_DONE: result for the outbox. */
extern PiFeedStatus pi_feed_step(PiFeed *feed, const PiFeedWorld *world,
								 PiApplyResult *result, uint64 *tag);

/*
 * With the copies of messages that were given back: would it work now?
 * PI_FEED_DONE if so.
 */
extern PiFeedStatus pi_feed_rehearse(PiFeed *feed, const PiFeedWorld *world);

/* Forgets what is in hand; the broker delivers it again. */
extern void pi_feed_drop(PiFeed *feed);

/* At a clean end, in a transaction: takes back a record of an attempt. */
extern void pi_feed_undo_attempt(PiFeed *feed);

#endif							/* PI_FEED_H */
