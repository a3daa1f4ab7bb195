/*-------------------------------------------------------------------------
 *
 * find.h
 *		The searches: every statement by which profiles are found.
 *
 * Callers are connected to SPI and have opened a batch (store.h).  Results
 * live in the caller's current memory context.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_FIND_H
#define PI_FIND_H

#include "store.h"

/* Distinct profiles that match; a third one is of no interest. */
typedef struct PiMatches
{
	int			n;				/* 0, 1 or 2 (several) */
	PiProfile	profile;		/* the one, if n is 1 */
} PiMatches;

/* Searches; each unites its hits with what *m holds already. */
extern void pi_find_email_field(const PiDatabase *db, const char *email, PiMatches *m);
extern void pi_find_key(const PiDatabase *db, const char *name, char **keys, int nkeys, PiMatches *m);
extern void pi_find_contact(const PiDatabase *db, const char *channel,
							const char *contact_key, int resource_id, PiMatches *m);
extern void pi_find_sub_key(const PiDatabase *db, const char *name, char **keys, int nkeys,
							int resource_id, PiMatches *m);
extern void pi_find_id(const PiDatabase *db, const char *profile_id, PiMatches *m);

/* Is there another profile with this email, or this unique value? */
extern bool pi_email_taken(const PiDatabase *db, const char *email, const char *profile_id);
extern bool pi_key_taken(const PiDatabase *db, const char *name, const char *key, const char *profile_id);

#endif							/* PI_FIND_H */
