/*-------------------------------------------------------------------------
 *
 * subscriptions.h
 *		data.subscriptions: elements read, applied to the subscriptions of a
 *		profile, written (SPEC.md section 5).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_SUBSCRIPTIONS_H
#define PI_SUBSCRIPTIONS_H

#include "merge.h"
#include "message.h"
#include "store.h"

/* An element, or the subscription that a *_sub mode creates. */
typedef struct PiSubChange
{
	const PiResource *resource;
	const char *channel;
	char	   *contact;
	char	   *provider;
	Jsonb	   *cc_data;
	char	   *contact_key;
	int			status;			/* -1: leave it */
	int			priority;		/* -1: leave it */
	bool		has_cats;
	char	  **cats;
	int			ncats;
	PiChange   *fields;
	int			nfields;
	bool		implicit;		/* made from the inputs of the mode */
} PiSubChange;

/* A subscription of the profile as it will be. */
typedef struct PiSubState
{
	PiSubscription sub;
	PiSubscription orig;		/* as stored; all zero for a new one */
	const PiResource *resource; /* NULL: not touched by the message */
	bool		implicit;
	bool		changed;
	bool		dropped;		/* new and invalid, with skip_invalid */
	bool		status_changed;
	bool		priority_changed;
	bool		cats_changed;
	PiChanged  *fields;			/* custom fields changed, last value */
	int			nfields;
} PiSubState;

typedef struct PiSubStates
{
	PiSubState *states;
	int			n;
} PiSubStates;

/* Is it one of the channels of SPEC.md section 5?  Its constant, or NULL. */
extern const char *pi_channel(const char *name, int len);

/*
 * Reads data.subscriptions (step 5 of the order of failures).  False: *error
 * is 400 or 404.
 */
extern bool pi_subs_parse(const PiDatabase *db, const PiMessage *msg, PiSubChange **changes,
						  int *nchanges, int *error, char **error_text);

/* The subscriptions that the mode creates with a profile; resource_id given. */
extern int	pi_subs_implicit(const PiDatabase *db, const PiMessage *msg, PiSubChange *changes);

/*
 * Applies changes to what the profile has (profile_id NULL: a new one).
 * False: step 7, *error_text, code 400.
 */
extern bool pi_subs_apply(const PiDatabase *db, const char *profile_id, bool skip_invalid,
						  const PiSubChange *changes, int nchanges, PiSubStates *out,
						  char **error_text);

/*
 * Writes them; "written": this message has just written the profile.  False:
 * somebody else changed one of them, or deleted the profile.
 */
extern bool pi_subs_write(const PiDatabase *db, const char *profile_id, PiSubStates *states,
						  bool written);

extern bool pi_subs_changed(const PiSubStates *states);

/* "changes" of the trigger event of a written subscription. */
extern Jsonb *pi_subs_event(const PiSubState *state);

#endif							/* PI_SUBSCRIPTIONS_H */
