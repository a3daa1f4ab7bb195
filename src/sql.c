/*-------------------------------------------------------------------------
 *
 * sql.c
 *		Statements of the worker, prepared once.
 *
 * NOTES
 *		A plan is kept for the life of the process.  It outlives DROP and
 *		CREATE EXTENSION: the plan cache analyzes the statement again when
 *		its tables are not the ones it was made for.  Everything in a
 *		statement is qualified or lives in pg_catalog; the worker runs with
 *		an empty search_path.
 *
 * IDENTIFICATION
 *		src/sql.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "sql.h"
#include "utils/uuid.h"

uint64
pi_sql(PiSql *statement, const Datum *values, const char *nulls)
{
	int			rc;

	if (statement->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(statement->text, statement->nargs,
									   statement->argtypes);

		if (plan == NULL)
			elog(ERROR, "SPI_prepare failed: %s",
				 SPI_result_code_string(SPI_result));
		if (SPI_keepplan(plan) != 0)
			elog(ERROR, "SPI_keepplan failed");
		statement->plan = plan;
	}

	rc = SPI_execute_plan(statement->plan, (Datum *) values, nulls, false, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute_plan failed: %s",
			 SPI_result_code_string(rc));

	/* by a rule of the user: such a plan would outlive the rule */
	if (rc == SPI_OK_REWRITTEN)
	{
		SPI_freeplan(statement->plan);
		statement->plan = NULL;
	}
	return SPI_processed;
}

Datum
pi_sql_column_null(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 column, isnull);
}

Datum
pi_sql_column(uint64 row, int column)
{
	bool		isnull;
	Datum		value = pi_sql_column_null(row, column, &isnull);

	if (isnull)
		elog(ERROR, "unexpected null in column %d", column);
	return value;
}

Datum
pi_sql_int8s(const int64 *values, int n)
{
	Datum	   *elems = (Datum *) palloc(sizeof(Datum) * Max(n, 1));
	ArrayType  *array;

	for (int i = 0; i < n; i++)
		elems[i] = Int64GetDatum(values[i]);
	array = construct_array(elems, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
							TYPALIGN_DOUBLE);
	pfree(elems);
	return PointerGetDatum(array);
}

Datum
pi_sql_digests(const uint8 *digests, int n)
{
	Datum	   *elems = (Datum *) palloc(sizeof(Datum) * Max(n, 1));
	ArrayType  *array;

	for (int i = 0; i < n; i++)
		elems[i] = PointerGetDatum(digests + (Size) i * UUID_LEN);
	array = construct_array(elems, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
	pfree(elems);
	return PointerGetDatum(array);
}
