/*-------------------------------------------------------------------------
 *
 * merge.h
 *		A set of changes applied to a stored object of fields: data of a
 *		profile, custom_fields of a subscription.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_MERGE_H
#define PI_MERGE_H

#include "fields.h"

/* A field that has another value than before; value only if present. */
typedef struct PiChanged
{
	const PiFieldDef *field;
	bool		present;
	JsonbValue	value;
} PiChanged;

typedef struct PiMerge
{
	Jsonb	   *data;			/* the new object; the old one if !nchanged */
	PiChanged  *changed;
	int			nchanged;
} PiMerge;

/*
 * Applies the changes (no field twice).  False: one of them fails on the
 * stored value (400).
 */
extern bool pi_merge(Jsonb *old, const PiChange *changes, int nchanges,
					 PiMerge *out, char **error_text);

/* Pushes the changed fields into an object that is being built; null: unset. */
extern void pi_push_changed(JsonbParseState * *state, const PiChanged *changed, int n);

/* The stored value of a field, or NULL. */
extern JsonbValue *pi_stored_value(Jsonb *data, const PiFieldDef *field);

/* An object without members. */
extern Jsonb *pi_empty_object(void);

#endif							/* PI_MERGE_H */
