/*-------------------------------------------------------------------------
 *
 * apply.h
 *		One transaction for a batch, or a piece of one.
 *
 * Knows no AMQP connection.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_APPLY_H
#define PI_APPLY_H

#include "batch.h"
#include "journal.h"

typedef enum PiApplyStatus
{
	PI_APPLY_DONE,
	PI_APPLY_ABSENT,			/* there is no usable extension */
	PI_APPLY_LOST,				/* the connection the batch came from is dead */
	PI_APPLY_UNDECIDED,			/* try again in a moment, or decide */
	PI_APPLY_TRANSIENT,			/* try again */
	PI_APPLY_SETUP,				/* a grant or an object is missing, for all */
	PI_APPLY_TIMEOUT,			/* ran into batch_timeout */
	PI_APPLY_MEMORY,			/* 53200 */
	PI_APPLY_PERMANENT			/* anything else; nobody is to blame yet */
} PiApplyStatus;

typedef struct PiApplyRequest
{
	const PiArrival *items;
	int			n;

	/* of PiRepeatScope; *horizon is kept from one attempt to the next */
	bool		all_kept;
	bool		decide;
	int64	   *horizon;

	/* where the items come from */
	PiSource	source;

	/* the first (and only) item is not imported but answered 500 with this */
	const char *give_up_sqlstate;
	const char *give_up_text;

	/* an attempt was recorded for the (only) item */
	bool		attempted;

	/* roll back in the end: only to see whether it would work */
	bool		rehearse;

	/* services the connections; false: the one that delivered is dead */
	bool		(*tick) (bool thorough);

	/* for the context of messages in the server log */
	const char *queue;
} PiApplyRequest;

typedef struct PiApplyResult
{
	/* PI_APPLY_DONE and not rehearsed */
	int			n;				/* items committed; may be fewer than asked */
	MemoryContext context;		/* for pi_outbox_add() */
	PiBatchRecord record;

	/* otherwise */
	int			sqlerrcode;
	char		message[512];	/* no profile values */

	/*
	 * Of a failure in the middle of the import: the item that was being
	 * imported, and whether it took most of the time; else -1.
	 */
	int			at;
	bool		slow;
} PiApplyResult;

/* Once, when connected to the database. */
extern void pi_apply_init(void);

extern PiApplyStatus pi_apply(const PiApplyRequest *request,
							  PiApplyResult *result);

/*
 * Runs something small of the journal in a transaction of its own.  An error
 * is a result as above, not thrown.  relaxed: a crash may undo it.
 */
extern PiApplyStatus pi_apply_small(void (*work) (void *arg), void *arg,
									bool relaxed, PiApplyResult *result);

/* In a transaction of its own: forgets the records that are settled. */
extern PiApplyStatus pi_apply_forget(PiApplyResult *result);

/*
 * The tables were read and the outbox filled from them: from now on another
 * table in their place (the extension was dropped and created) is
 * PI_APPLY_ABSENT.  In a transaction.
 */
extern void pi_apply_attach(void);
extern void pi_apply_detach(void);

/* Is the extension there, as it was, and ours?  In a transaction. */
extern bool pi_apply_at_home(void);

/* The same for the last transaction: may our role still write there? */
extern bool pi_apply_may_note_end(void);

/*
 * True if the last transaction found an extension that belongs to somebody
 * else, and that we should be: profimport.role is empty.  It was
 * PI_APPLY_ABSENT then.
 */
extern bool pi_apply_is_stranger(void);

/* The five characters of an SQLSTATE; valid until the next call. */
extern const char *pi_sqlstate_text(int sqlerrcode);

#endif							/* PI_APPLY_H */
