/*-------------------------------------------------------------------------
 *
 * match.h
 *		The eleven modes: which profiles a message means (SPEC.md section 3).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_MATCH_H
#define PI_MATCH_H

#include "find.h"
#include "message.h"

/* A value of a field that is matched by. */
typedef struct PiMatchValue
{
	const PiFieldDef *field;
	int			resource_id;	/* custom_sub: where the field is declared */
	JsonbValue	value;
	char	  **keys;
	int			nkeys;
} PiMatchValue;

typedef struct PiMatchValues
{
	PiMatchValue *values;		/* custom: one; custom_sub: one per resource */
	int			n;
} PiMatchValues;

/*
 * custom and custom_sub: finds the field and converts field_value (step 5).
 * False: 400 with *error_text.
 */
extern bool pi_match_prepare(const PiDatabase *db, const PiMessage *msg,
							 PiMatchValues *out, char **error_text);

/* Searches the profiles that the message means. */
extern void pi_match(const PiDatabase *db, const PiMessage *msg,
					 const PiMatchValues *values, PiMatches *m);

/*
 * What must be locked, so that of two messages that look for the same value
 * and would create a profile the second finds what the first made: hashes of
 * the values that the message looks at.  None if it never creates.
 */
extern int	pi_match_locks(const PiMessage *msg, const PiMatchValues *values,
						   uint64 **hashes);

#endif							/* PI_MATCH_H */
