/*-------------------------------------------------------------------------
 *
 * sql.h
 *		Statements of the worker, prepared once.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_SQL_H
#define PI_SQL_H

#include "executor/spi.h"

#define PI_SQL_MAX_ARGS 6

/* Initialize text, nargs and argtypes; the plan is made at first use. */
typedef struct PiSql
{
	const char *text;
	int			nargs;
	Oid			argtypes[PI_SQL_MAX_ARGS];
	SPIPlanPtr	plan;
} PiSql;

/*
 * Runs the statement in the present SPI connection and returns how many rows
 * it processed; a SELECT or RETURNING leaves its rows in SPI_tuptable.
 * "nulls" as for SPI_execute_plan(), NULL if there are none.
 */
extern uint64 pi_sql(PiSql *statement, const Datum *values, const char *nulls);

/* Column of a row in SPI_tuptable that is known not to be null. */
extern Datum pi_sql_column(uint64 row, int column);

/* The same, but NULL is told. */
extern Datum pi_sql_column_null(uint64 row, int column, bool *isnull);

/* Arrays as parameters. */
extern Datum pi_sql_int8s(const int64 *values, int n);
extern Datum pi_sql_digests(const uint8 *digests, int n);

#endif							/* PI_SQL_H */
