/*-------------------------------------------------------------------------
 *
 * statement.c
 *		A kept statement of the domain: run, and what it returns.
 *
 * NOTES
 *		Plans are generic and kept for the life of the process.  They must not
 *		be made from the statistics of tables that happen to be small: every
 *		index leads with its selective column, and sequential scans are off
 *		while a batch runs, whenever a plan is made anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "statement.h"

void
pi_run_with_snapshot(PiStatement *st, Datum *args, const char *nulls, long limit,
				  Snapshot snapshot)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	int			rc;

	if (st->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare_cursor(st->sql, st->nargs, st->types,
											  CURSOR_OPT_GENERIC_PLAN);

		if (plan == NULL)
			elog(ERROR, "could not prepare a statement: %s",
				 SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		st->plan = plan;
	}
	rc = SPI_execute_snapshot(st->plan, args, nulls, snapshot, InvalidSnapshot,
							  false, true, limit);
	if (rc < 0)
		elog(ERROR, "could not run a statement: %s", SPI_result_code_string(rc));

	/*
	 * A rule of the user put something, or nothing, in its place.  A plan of
	 * nothing depends on no table, so nobody would tell when the rule is
	 * gone.
	 */
	if (rc == SPI_OK_REWRITTEN)
	{
		SPI_freeplan(st->plan);
		st->plan = NULL;
	}
	MemoryContextSwitchTo(oldcontext);
}

void
pi_run(PiStatement *st, Datum *args, const char *nulls, long limit)
{
	pi_run_with_snapshot(st, args, nulls, limit, InvalidSnapshot);
}

Datum
pi_column(int row, int col, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col, isnull);
}

char *
pi_column_text(int row, int col)
{
	bool		isnull;
	Datum		d = pi_column(row, col, &isnull);

	return isnull ? NULL : TextDatumGetCString(d);
}

Jsonb *
pi_column_jsonb(int row, int col)
{
	bool		isnull;
	Datum		d = pi_column(row, col, &isnull);

	return isnull ? NULL : DatumGetJsonbPCopy(d);
}

void
pi_column_version(int row, int col, ItemPointer ctid, TransactionId * xmin)
{
	bool		isnull;

	ItemPointerCopy((ItemPointer) DatumGetPointer(pi_column(row, col, &isnull)), ctid);
	*xmin = DatumGetTransactionId(pi_column(row, col + 1, &isnull));
}

Datum
pi_texts_to_array(const JsonbValue *strings)
{
	int			n = strings->val.array.nElems;
	Datum	   *elems = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		const JsonbValue *s = &strings->val.array.elems[i];

		elems[i] = PointerGetDatum(cstring_to_text_with_len(s->val.string.val,
															s->val.string.len));
	}
	return PointerGetDatum(construct_array(elems, n, TEXTOID, -1, false, TYPALIGN_INT));
}

Datum
pi_cstrings_to_array(char **strings, int n)
{
	Datum	   *elems = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elems[i] = CStringGetTextDatum(strings[i]);
	return PointerGetDatum(construct_array(elems, n, TEXTOID, -1, false, TYPALIGN_INT));
}

Datum
pi_subscripted_array(Datum *elems, bool *nulls, int n, Oid type)
{
	int16		typlen;
	bool		typbyval;
	char		typalign;
	int			lbound = 1;
	ArrayType  *array;

	get_typlenbyvalalign(type, &typlen, &typbyval, &typalign);
	array = construct_md_array(elems, nulls, 1, &n, &lbound, type,
							   typlen, typbyval, typalign);
	return n > 1 ? expand_array(PointerGetDatum(array), CurrentMemoryContext, NULL) :
		PointerGetDatum(array);
}

void
pi_array_to_texts(Datum array, JsonbValue *strings)
{
	Datum	   *elems;
	bool	   *nulls;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT,
					  &elems, &nulls, &n);
	strings->type = jbvArray;
	strings->val.array.nElems = n;
	strings->val.array.rawScalar = false;
	strings->val.array.elems = palloc(sizeof(JsonbValue) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		JsonbValue *s = &strings->val.array.elems[i];

		if (nulls[i])
		{
			s->type = jbvNull;
			continue;
		}
		s->type = jbvString;
		s->val.string.val = TextDatumGetCString(elems[i]);
		s->val.string.len = strlen(s->val.string.val);
	}
}
