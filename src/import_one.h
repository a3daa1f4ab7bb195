/*-------------------------------------------------------------------------
 *
 * import_one.h
 *		One message: checked, matched, merged, written.  Between engine.c,
 *		which runs batches, and import_one.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_IMPORT_ONE_H
#define PI_IMPORT_ONE_H

#include "engine.h"
#include "events.h"
#include "find.h"
#include "match.h"
#include "message.h"

/* A message of a batch, read as far as it can be without its profile. */
typedef struct PiItem
{
	int			ordinal;
	bool		read;			/* the rest is valid, but echo and locks */
	PiMessage	msg;
	PiMatchValues values;
	int			early_error;	/* not 0: it failed in steps 1 to 3 ... */
	char	   *early_text;
	char	   *value_error;	/* ... or its match value does not fit (step
								 * 5) */
	/* echo, also of a message that could not be read */
	const char *feedback_id;
	const char *matching;
	int			account_id;
	int			db_id;
	uint64	   *locks;
	int			nlocks;
} PiItem;

typedef struct PiEventList
{
	PiEventRow *rows;
	int		   *ordinals;		/* message of each */
	int			n;
	int			room;
	MemoryContext context;		/* of rows and what they point to */
} PiEventList;

/*
 * Set before an error is raised because somebody else changed what was just
 * read: the message must be done again.
 */
extern bool pi_version_gone;

/* Reads a message into *item, in CurrentMemoryContext. */
extern void pi_item_read(PiItem *item, const PiInput *input);

/* Only what a result echoes. */
extern void pi_item_read_echo(PiItem *item, const PiInput *input);

/* Starts a result with what it echoes of the message. */
extern void pi_item_echo(const PiItem *item, PiResult *r);

/* Makes it a failure.  Texts are kept by reference. */
extern void pi_fail(PiResult *r, int error, const char *error_text);

/* Imports it; the result is in CurrentMemoryContext. */
extern void pi_import_one(PiItem *item, PiResult *r, PiEventList *events);

/* The row of an event as a JSON object. */
extern char *pi_event_json(const PiEventRow *e);

/* Nothing of the user runs when the engine writes profiles. */
extern bool pi_engine_is_alone(void);

/*
 * Lets deferred constraint triggers of the user on our tables speak now, so
 * that their errors meet the message and not the commit.
 */
extern void pi_run_deferred_triggers(void);

#endif							/* PI_IMPORT_ONE_H */
