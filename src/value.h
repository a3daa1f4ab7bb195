/*-------------------------------------------------------------------------
 *
 * value.h
 *		Trees of JsonbValue: tools that only body.c, convert.c and fields.c
 *		need.  What everybody needs is declared in convert.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_VALUE_H
#define PI_VALUE_H

#include "convert.h"

/*
 * What one jsonb container may hold (jsonb.h's JENTRY_OFFLENMASK).  Whoever
 * keeps a value below it can turn it into a jsonb without an error.
 */
#define PI_MAX_JSONB_BYTES	((uint64) JENTRY_OFFLENMASK)

/* The order of keys inside a jsonb object: shorter first, then by bytes. */
static inline int
pi_key_compare(const char *a, int alen, const char *b, int blen)
{
	if (alen != blen)
		return alen < blen ? -1 : 1;
	return memcmp(a, b, alen);
}

static inline void
pi_set_string(JsonbValue *out, const char *s, int len)
{
	out->type = jbvString;
	out->val.string.val = (char *) s;
	out->val.string.len = len;
}

static inline bool
pi_string_is(const JsonbValue *v, const char *s, int len)
{
	return v->type == jbvString && v->val.string.len == len &&
		memcmp(v->val.string.val, s, len) == 0;
}

/* palloc of any size that fits into memory. */
extern void *pi_alloc_huge(Size size);

/*
 * A number of this value.  Small ones are shared and live for ever: nobody
 * may free or change the number of a tree.
 */
extern Numeric pi_int_numeric(int64 value);

/*
 * A number as float fields hold it: its text is the shortest that reads back
 * as the same double.  The value must be finite.
 */
extern void pi_set_double(JsonbValue *out, double value);

/* False if v is no number, or one beyond the range of a double. */
extern bool pi_get_double(const JsonbValue *v, double *result);

typedef int (*PiCompare) (const void *a, const void *b);

/* Stable, and never worse than n log n whatever the order of the items. */
extern void pi_sort(const void **items, int n, PiCompare compare);

/*
 * Total order over values, 0 exactly for jsonb equality.  (Not the order of
 * jsonb_cmp: this one looks at no collation.)
 */
extern int	pi_value_compare(const JsonbValue *a, const JsonbValue *b);

/*
 * For each of n values the index of the first one equal to it (its own if
 * none before it is).  The answer is palloc'd.
 */
extern int *pi_value_first_equal(const JsonbValue *values, int n);

/*
 * Upper bound of the bytes of v as jsonb, long numbers counted as they are
 * shown; counting stops beyond "enough".
 */
extern uint64 pi_value_size(const JsonbValue *v, uint64 enough);

#endif							/* PI_VALUE_H */
