/*-------------------------------------------------------------------------
 *
 * row.h
 *		Rows of profile and subscription within a trigger: taken apart, put
 *		together again, compared, refused.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_ROW_H
#define PI_ROW_H

#include "commands/trigger.h"

/* With those that users have added, dropped ones included. */
#define PI_MAX_COLUMNS 64

/* The BEFORE trigger of both tables; see sql/ext/30_profile.sql. */
#define PI_CHECK_TRIGGER "zz_profimport_check"

/* A row taken apart, and put together again if something was normalised. */
typedef struct Row
{
	TupleDesc	desc;
	HeapTuple	tuple;
	Datum		values[PI_MAX_COLUMNS + 1];
	bool		nulls[PI_MAX_COLUMNS + 1];
	bool		replaced[PI_MAX_COLUMNS + 1];
	bool		any_replaced;
} PiRow;

/*
 * The trigger data, if the function was called as a row trigger of a table
 * whose first n columns are of these types.
 */
extern TriggerData * pi_called_as_row_trigger(FunctionCallInfo fcinfo, const char *name,
											  const Oid *types, int n);

extern void pi_row_take_apart(Relation rel, HeapTuple tuple, PiRow *row);
extern void pi_row_replace(PiRow *row, int col, Datum value, bool isnull);
extern HeapTuple pi_row_put_together(PiRow *row);
extern char *pi_row_text(const PiRow *row, int col);
extern bool pi_row_same(const PiRow *a, const PiRow *b, int col);

/* Sets column updated_at if one of those before "end" has changed. */
extern void pi_row_touch(PiRow *row, const PiRow *old, int end, int updated_at);

/* Values of NOT NULL columns are looked at before the constraint is. */
extern bool pi_row_lacks_required(Relation rel, const PiRow *row,
								  const int *except, int nexcept);

/* Raise 23514; the detail is a sentence. */
extern void pi_row_violation(Relation rel, const char *column, const char *detail);
extern void pi_row_violation_hint(Relation rel, const char *column, const char *detail,
								  const char *hint);

/* Why a value is not valid, as a sentence of its own. */
extern char *pi_sentence(const char *why);

/* Are there row triggers that may change what the engine wrote? */
extern bool pi_others_before(Relation rel, const char *own);

/*
 * A BEFORE trigger whose name sorts after our check sees what that has
 * normalised, and may change it again.  The name of such a trigger, or NULL.
 */
extern const char *pi_later_trigger(Relation rel);

/* Raises 23514 if normalising the stored row has replaced anything. */
extern void pi_row_refuse_overtaking(Relation rel, const PiRow *row, const char *trigger);

#endif							/* PI_ROW_H */
