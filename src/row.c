/*-------------------------------------------------------------------------
 *
 * row.c
 *		Rows of profile and subscription within a trigger: taken apart, put
 *		together again, compared, refused.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_trigger.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "row.h"

void
pi_row_take_apart(Relation rel, HeapTuple tuple, PiRow *row)
{
	memset(row, 0, sizeof(*row));
	row->desc = RelationGetDescr(rel);
	row->tuple = tuple;
	heap_deform_tuple(tuple, row->desc, &row->values[1], &row->nulls[1]);
}

void
pi_row_replace(PiRow *row, int col, Datum value, bool isnull)
{
	row->values[col] = value;
	row->nulls[col] = isnull;
	row->replaced[col] = true;
	row->any_replaced = true;
}

HeapTuple
pi_row_put_together(PiRow *row)
{
	if (!row->any_replaced)
		return row->tuple;
	return heap_modify_tuple(row->tuple, row->desc, &row->values[1], &row->nulls[1],
							 &row->replaced[1]);
}

char *
pi_row_text(const PiRow *row, int col)
{
	return row->nulls[col] ? NULL : TextDatumGetCString(row->values[col]);
}

bool
pi_row_same(const PiRow *a, const PiRow *b, int col)
{
	Form_pg_attribute att = TupleDescAttr(a->desc, col - 1);

	if (a->nulls[col] || b->nulls[col])
		return a->nulls[col] && b->nulls[col];
	return datum_image_eq(a->values[col], b->values[col], att->attbyval, att->attlen);
}

void
pi_row_violation_hint(Relation rel, const char *column, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_CHECK_VIOLATION),
			 errmsg("column \"%s\" of table \"%s\" does not accept this value",
					column, RelationGetRelationName(rel)),
			 errdetail_internal("%s", detail),
			 hint ? errhint("%s", hint) : 0,
			 err_generic_string(PG_DIAG_SCHEMA_NAME, "profimport"),
			 err_generic_string(PG_DIAG_TABLE_NAME, RelationGetRelationName(rel)),
			 err_generic_string(PG_DIAG_COLUMN_NAME, column),
			 err_generic_string(PG_DIAG_CONSTRAINT_NAME, PI_CHECK_TRIGGER)));
}

/* Why a value is not valid, as a sentence of its own. */
char *
pi_sentence(const char *why)
{
	char	   *s = psprintf("%s.", why);

	s[0] = pg_toupper((unsigned char) s[0]);
	return s;
}

void
pi_row_violation(Relation rel, const char *column, const char *detail)
{
	pi_row_violation_hint(rel, column, detail, NULL);
}

/* Values of NOT NULL columns are looked at before the constraint is. */
bool
pi_row_lacks_required(Relation rel, const PiRow *row, const int *except, int nexcept)
{
	for (int i = 1; i <= row->desc->natts; i++)
	{
		bool		excepted = false;

		for (int j = 0; j < nexcept; j++)
			excepted |= except[j] == i;
		if (!excepted && row->nulls[i] && TupleDescAttr(row->desc, i - 1)->attnotnull)
			return true;		/* the constraint says it better */
	}
	return false;
}

/* Are there row triggers that may change what the engine wrote? */
bool
pi_others_before(Relation rel, const char *own)
{
	TriggerDesc *td = rel->trigdesc;

	for (int i = 0; i < td->numtriggers; i++)
		if (TRIGGER_FOR_ROW(td->triggers[i].tgtype) &&
			TRIGGER_FOR_BEFORE(td->triggers[i].tgtype) &&
			strcmp(td->triggers[i].tgname, own) != 0)
			return true;
	return false;
}

/*
 * A BEFORE trigger whose name sorts after our check sees what that has
 * normalised, and may change it again.  The name of such a trigger, or NULL.
 */
const char *
pi_later_trigger(Relation rel)
{
	TriggerDesc *td = rel->trigdesc;

	for (int i = 0; i < td->numtriggers; i++)
		if (TRIGGER_FOR_ROW(td->triggers[i].tgtype) &&
			TRIGGER_FOR_BEFORE(td->triggers[i].tgtype) &&
			!TRIGGER_FOR_DELETE(td->triggers[i].tgtype) &&
			strcmp(td->triggers[i].tgname, PI_CHECK_TRIGGER) > 0)
			return td->triggers[i].tgname;
	return NULL;
}

/* What became of the row after the check is not as it would be normalised. */
void
pi_row_refuse_overtaking(Relation rel, const PiRow *row, const char *trigger)
{
	for (int i = 1; i <= row->desc->natts; i++)
		if (row->replaced[i])
			ereport(ERROR,
					(errcode(ERRCODE_CHECK_VIOLATION),
					 errmsg("column \"%s\" of table \"%s\" was changed after it was checked",
							NameStr(TupleDescAttr(row->desc, i - 1)->attname),
							RelationGetRelationName(rel)),
					 errdetail("Trigger \"%s\" runs after \"%s\" and stores a value that is not normalised.",
							   trigger, PI_CHECK_TRIGGER),
					 errhint("Give the trigger a name that sorts before \"%s\".",
							 PI_CHECK_TRIGGER),
					 err_generic_string(PG_DIAG_SCHEMA_NAME, "profimport"),
					 err_generic_string(PG_DIAG_TABLE_NAME, RelationGetRelationName(rel)),
					 err_generic_string(PG_DIAG_CONSTRAINT_NAME, PI_CHECK_TRIGGER)));
}

TriggerData *
pi_called_as_row_trigger(FunctionCallInfo fcinfo, const char *name,
						 const Oid *types, int n)
{
	TriggerData *td = (TriggerData *) fcinfo->context;
	TupleDesc	desc;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(td->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called as a row trigger", name)));

	/* columns may have been added, but ours are where they were */
	desc = RelationGetDescr(td->tg_relation);
	if (desc->natts > PI_MAX_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("table \"%s\" has more than %d columns",
						RelationGetRelationName(td->tg_relation), PI_MAX_COLUMNS),
				 errdetail("Dropped columns count.")));
	for (int i = 0; i < n; i++)
		if (i >= desc->natts || TupleDescAttr(desc, i)->attisdropped ||
			TupleDescAttr(desc, i)->atttypid != types[i])
			ereport(ERROR,
					(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
					 errmsg("function \"%s\" was called for a table with other columns",
							name)));
	return td;
}

/* Sets updated_at if one of the columns before "end" has changed. */
void
pi_row_touch(PiRow *row, const PiRow *old, int end, int updated_at)
{
	for (int col = 1; col < end; col++)
		if (!pi_row_same(row, old, col))
		{
			pi_row_replace(row, updated_at,
						   TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()), false);
			break;
		}
}
