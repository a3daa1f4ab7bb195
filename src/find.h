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
	bool		ahead;			/* as of the beginning of the batch */
} PiMatches;

/* Searches; each unites its hits with what *m holds already. */
extern void pi_find_email_field(const PiDatabase *db, const char *email, PiMatches *m);
extern void pi_find_key(const PiDatabase *db, const char *name, char **keys, int nkeys, PiMatches *m);
extern void pi_find_contact(const PiDatabase *db, const char *channel,
							const char *contact_key, int resource_id, PiMatches *m);
extern void pi_find_sub_key(const PiDatabase *db, const char *name, char **keys, int nkeys,
							int resource_id, PiMatches *m);
extern void pi_find_id(const PiDatabase *db, const char *profile_id, PiMatches *m);

/*
 * Ahead: for a batch in which nothing but the engine writes profiles, those
 * that its messages look for by email are read with one statement.
 * pi_find_email_field() then answers from what was read, once for each email,
 * and no more once a profile with that email, before or after, was written.
 * What others have changed meanwhile shows when the version is written; who
 * writes nothing, or fails, has to look again (import_one.c).
 */
typedef struct PiSought
{
	const PiDatabase *db;
	const char *email;
} PiSought;

typedef struct PiAhead PiAhead;

/*
 * Between pi_find_ahead_begin() and pi_find_ahead_end(), in CurrentMemoryContext
 * and a subtransaction that ends there as well.  An import within an import
 * has its own.
 */
extern PiAhead *pi_find_ahead_begin(void);
extern void pi_find_ahead(const PiSought *sought, int n);
extern void pi_find_ahead_end(PiAhead *before);
extern void pi_find_ahead_written(const PiDatabase *db, const char *email);

/* Is there another profile with this email, or this unique value? */
extern bool pi_email_taken(const PiDatabase *db, const char *email, const char *profile_id);
extern bool pi_key_taken(const PiDatabase *db, const char *name, const char *key, const char *profile_id);

#endif							/* PI_FIND_H */
