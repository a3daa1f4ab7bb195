/*-------------------------------------------------------------------------
 *
 * events.h
 *		What an import leaves besides profiles: rows of trigger_event and
 *		import_error.
 *
 * Callers are connected to SPI.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_EVENTS_H
#define PI_EVENTS_H

#include "utils/jsonb.h"

typedef struct PiEventRow
{
	int64		event_id;		/* given by pi_number_events() */
	const char *kind;
	int			account_id;
	int			db_id;
	const char *profile_id;
	int64		subscription_no;	/* 0: none, resource_id and channel too */
	int			resource_id;
	const char *channel;
	Jsonb	   *changes;
	const char *feedback_id;
} PiEventRow;

/* Numbers first: those that go to trigger_queue have one as well. */
extern void pi_number_events(PiEventRow *events, int n);
extern void pi_insert_events(const PiEventRow *events, int n);

extern void pi_insert_error(int error, const char *error_text, const char *sqlstate,
							const char *feedback_id, int account_id, int db_id,
							const char *body, size_t len, Jsonb *headers);

#endif							/* PI_EVENTS_H */
