/*-------------------------------------------------------------------------
 *
 * fields.h
 *		Plain values and functional updates: from a member of "data" to a
 *		change, and from a change and the stored value to the new value.
 *
 * Used for profile fields and for custom_fields of subscriptions alike.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_FIELDS_H
#define PI_FIELDS_H

#include "convert.h"

typedef enum PiAction
{
	PI_ACTION_SET,
	PI_ACTION_UNSET,
	PI_ACTION_INCR,
	PI_ACTION_ADD,
	PI_ACTION_DELETE,
	PI_ACTION_UPSERT
} PiAction;

typedef struct PiChange
{
	const PiFieldDef *field;
	PiAction	action;			/* null and {"action":"set","value":null} are
								 * PI_ACTION_UNSET */
	JsonbValue	value;			/* converted by the field's rules (incr: a
								 * number; add and delete: an array; upsert:
								 * the value as sent) */
	char	  **path;			/* upsert: the parts of submatch */
	int			npath;
} PiChange;

/*
 * Everything about a member of "data" that the message alone shows (step 5
 * of the order of failures).  False: *error_text is the palloc'd sentence,
 * with the field's name in double quotes; the code is 400.
 */
extern bool pi_change_parse(const PiFieldDef *field, const JsonbValue *in,
							PiChange *out, char **error_text);

/*
 * Applies a change to the stored value ("old" NULL: absent; may be
 * jbvBinary).  Sets *present to whether the field has a value afterwards and
 * *result to that value (in-memory tree).  False: the change fails on the
 * stored value (step 7, code 400) with *error_text.
 */
extern bool pi_change_apply(const PiChange *change, const JsonbValue *old,
							JsonbValue *result, bool *present,
							char **error_text);

#endif							/* PI_FIELDS_H */
